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
    for name in ("running_replicas", "count_running", "count_queued", "most_queued"):
        monkeypatch.setattr(ray_private, name, getattr(serve, name))
    yield serve
    await serve.stop()
