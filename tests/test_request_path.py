"""A request enters each package once on its way in, in the order gateway, wire, routing, ..., engines."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments import __file__ as root_module
from deployments.card import Card, Replicas, Snapshot
from deployments.config.yaml_file import read
from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.replica.model_replica import Replica
from deployments.routing.router import Router
from deployments.transport.server import ReplicaServer
from tests.loaded_models import MODELS
from tests.routing.conftest import serve as serve
from tests.routing.fake_serve import FakeServe, ongoing

pytestmark = pytest.mark.model

ROOT = Path(root_module).parent
# Packages in the order in which a request first enters them. Top-level modules (schema, results, ...) and
# `telemetry`, which only counts, are shared by all of them.
CLASSIFICATION = ["gateway", "wire", "routing", "transport", "replica", "tasks", "pipelines", "engines"]
CHAT = ["gateway", "wire", "routing", "transport", "replica", "tasks", "pipelines", "generation", "engines"]
CALLS = {
    "sentiment": ("/models/sentiment", {"inputs": "A fine day."}, CLASSIFICATION),
    "conversational": (
        "/v1/chat/completions",
        {"model": "conversational", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        CHAT,
    ),
}


class SnapshotSource:
    """Stands for the handle of the Catalog: one snapshot, then silence."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot: Snapshot | None = snapshot
        self.watch = self.report = SimpleNamespace(remote=self._remote)

    async def _remote(self, *_: Any) -> Snapshot:
        if self.snapshot is None:
            await asyncio.Event().wait()
        snapshot, self.snapshot = self.snapshot, None
        assert snapshot is not None
        return snapshot


@contextmanager
def recorded_files() -> Iterator[list[str]]:
    """Record the files of deployments/ in the order in which calls first enter them.

    This includes the threads that start meanwhile, so the model must load inside.
    """
    files: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(ROOT)):
            name = str(Path(file).relative_to(ROOT))
            if name not in files:
                files.append(name)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.parametrize("model_id", CALLS)
async def test_request_enters_each_package_once(
    model_id: str, serve: FakeServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    path, body, expected = CALLS[model_id]
    folder = MODELS / model_id
    config = read(folder)
    with recorded_files() as files:
        replica = Replica(config.model_dump(exclude={"deployment", "batching"}), str(folder))
        server = ReplicaServer(replica, ongoing)
        serve.listed = {"replica": SimpleNamespace(replica_metadata=await server.open("127.0.0.1"))}
        card = Card(id=model_id, state="ready", task=config.module.task.name, replicas=Replicas(running=1))
        router = Router(SnapshotSource(Snapshot("1", True, {model_id: card})), [], 30)  # type: ignore[arg-type]
        await router.check_health()
        app = http_app.build(router, DIALECTS)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        files.clear()
        response = await http.post(path, json=body)
    await close(router, server)
    assert response.status_code == httpx.codes.OK, response.text
    packages = dict.fromkeys(name.split("/")[0] for name in files if "/" in name)
    assert [package for package in packages if package != "telemetry"] == expected, files


async def close(router: Router, server: ReplicaServer) -> None:
    for client in router._clients.values():
        client.close()
    for task in (router._task, router._reporting):
        task.cancel()
    server._server.close()
    await asyncio.sleep(0.05)  # the event loop closes the connections in its next iterations
