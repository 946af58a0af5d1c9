"""A stand-in for Ray Serve, in place of the real one."""

from collections.abc import AsyncIterator

import pytest

from deployments.cluster.ray_private import handles as ray_private
from deployments.routing import serve_handle
from tests.routing.fake_serve import FakeServe


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeServe]:
    serve = FakeServe()
    monkeypatch.setattr(serve_handle.serve, "get_app_handle", serve.get_app_handle)
    monkeypatch.setattr(ray_private, "running_replicas", lambda _: serve.listed)
    monkeypatch.setattr(ray_private, "count_running", lambda _, id, by: serve.counts.append((id, by)))
    monkeypatch.setattr(ray_private, "count_queued", lambda _, by: serve.queued.append(by))
    monkeypatch.setattr(ray_private, "most_queued", lambda _: serve.most)
    yield serve
    await serve.stop()
