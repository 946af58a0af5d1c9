"""The Catalog without Ray: what it asks of Serve, what it leaves alone, and what it says of each model."""

import copy
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.card import Snapshot
from deployments.catalog import reconciliation, retries
from deployments.catalog import serve_state as observed
from deployments.catalog.app_metadata import METADATA_KEY
from deployments.catalog.catalog import Catalog
from deployments.catalog.descriptions import Descriptions
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.serve_client import ServeClient
from deployments.cluster.nodes import NodeResources

ID = "FADC770C-25C8-4685-A176-51FF67B382C1"


class Serve(ServeClient):
    """What the Catalog sees of Ray Serve, kept in a dict."""

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}
        self.ran: list[tuple[str, bool]] = []
        self.previous: list[dict[str, Any] | None] = []
        self.deleted: list[str] = []
        self.refusal: Exception | None = None
        self.detail_queries = 0
        self.shares = NodeResources({"CPU": 2.0})

    async def details(self) -> dict[str, Any]:
        self.detail_queries += 1
        return copy.deepcopy(self.apps)

    async def statuses(self) -> list[bytes]:
        return [
            repr([name, *(deployment[key] for key in ("status", "status_trigger", "message"))]).encode()
            for one in self.apps.values()
            for name, deployment in one["deployments"].items()
        ]

    async def nodes(self) -> NodeResources:
        return self.shares

    async def deploy(self, folders: Sequence[ModelFolder], surge: bool) -> None:
        if self.refusal:
            raise self.refusal
        for folder in folders:
            self.ran.append((folder.id, surge))
            self.previous.append(folder.previous)
            self.apps[folder.id] = app(folder)

    async def delete(self, ids: list[str]) -> None:
        for id in ids:
            self.deleted.append(id)
            self.apps[id]["status"] = "DELETING"


def app(folder: ModelFolder | None, running: int = 1, **more: Any) -> dict[str, Any]:
    made_from = folder and {
        "module_id": ID,
        "model": "a/b",
        "revision": None,
        "folder": str(folder.path),
        "fingerprint": folder.fingerprint,
        "failed": folder.failed,
    }
    deployment = {
        "status": "HEALTHY",
        "message": "",
        "status_trigger": "CONFIG_UPDATE_COMPLETED",
        "target_num_replicas": 1,
        "required_resources": {"CPU": 0.05},
        "replicas": [{"state": "RUNNING", "replica_id": "old"}] * running,
        "deployment_config": {
            "user_config": {METADATA_KEY: made_from} if made_from else [1, 2],
            "max_surge_percent": 100,
            "max_ongoing_requests": 100,
            "max_queued_requests": 1000,
        },
    }
    return {"status": "RUNNING", "message": "", "deployments": {"model": {**deployment, **more}}}


def rolling(folder: ModelFolder, waited_s: float, node_id: str | None = None) -> dict[str, Any]:
    """Return an application with an old replica and a new one that waits for a node, or has one."""
    new = {
        "state": "STARTING",
        "replica_id": "new",
        "node_id": node_id,
        "start_time_s": time.time() - waited_s,
    }
    replicas = [{"state": "RUNNING", "replica_id": "old"}, new]
    return {**app(folder, status="UPDATING", replicas=replicas), "status": "DEPLOYING"}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    monkeypatch.setattr(reconciliation, "MISSING_S", -1.0)
    monkeypatch.setattr(Catalog, "_follow", lambda self: _nothing())
    monkeypatch.setattr(Descriptions, "update", lambda self, apps: None)
    return Serve()


async def _nothing() -> None:
    pass


def add(root: Path, name: str, text: str = f"module_id: {ID}") -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(text)
    return folder


async def look(catalog: Catalog, times: int = 2) -> Snapshot:
    for _ in range(times):
        await catalog._reconcile()
    return catalog.snapshot


async def test_deploy_new_and_edited_folders_once(serve: Serve, tmp_path: Path) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    assert (await look(catalog)).cards["a"].state == "loading"
    assert (await look(catalog, 3)).cards["a"].state == "ready"
    assert serve.ran == [("a", True)]
    add(tmp_path, "a", f"module_id: {ID}\ndeployment: {{num_replicas: 2}}")
    await look(catalog)
    assert serve.ran == [("a", True)] * 2


async def test_full_reading_after_a_status_change_or_a_pause(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 4)
    queries = serve.detail_queries
    assert (await look(catalog, 3)).cards["a"].state == "ready"
    assert serve.detail_queries == queries
    deployment = serve.apps["a"]["deployments"]["model"]
    deployment.update(status="UNHEALTHY", replicas=[], message="a replica died")
    assert (await look(catalog, 1)).cards["a"].state == "loading"
    deployment.update(
        replicas=[{"state": "RUNNING", "replica_id": "old"}]
    )  # its status may tell only when all are there
    assert (await look(catalog, 1)).cards["a"].state == "ready"
    deployment.update(status="HEALTHY", message="")
    await look(catalog, 1)
    queries = serve.detail_queries
    deployment["target_num_replicas"] = 2
    assert (await look(catalog, 1)).cards["a"].replicas.wanted == 1
    monkeypatch.setattr(observed, "DETAILS_S", -1.0)
    assert (await look(catalog, 1)).cards["a"].replicas.wanted == 2
    assert serve.detail_queries == queries + 1


async def test_restarted_catalog_deploys_nothing_again(serve: Serve, tmp_path: Path) -> None:
    add(tmp_path, "a")
    await look(Catalog(str(tmp_path), serve=serve), 3)
    another = Catalog(str(tmp_path), serve=serve)
    another._reconciliation.folders.scan()  # as `_follow` does before the first step
    snapshot = await look(another)
    assert len(serve.ran) == 1
    assert snapshot.startup_complete


async def test_delete_removed_folders_unless_the_root_is_missing(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "models"
    add(root, "a")
    add(root, "b")
    catalog = Catalog(str(root), serve=serve)
    await look(catalog, 3)
    shutil.rmtree(root / "b")
    assert (await look(catalog, 1)).cards.keys() == {"a"}
    assert serve.deleted == [], "a Router may not have heard of it yet"
    assert (await look(catalog, 3)).cards.keys() == {"a"}
    assert serve.deleted == ["b"], "once"
    del serve.apps["b"]
    root.rename(tmp_path / "away")
    assert (await look(catalog, 4)).cards.keys() == {"a"}
    root.mkdir()  # what a mount leaves behind
    await look(catalog, 4)
    await look(Catalog(str(tmp_path / "nowhere"), serve=serve), 4)
    assert serve.deleted == ["b"]


async def test_unload_deletes_the_application_and_load_deploys_it(serve: Serve, tmp_path: Path) -> None:
    folder = add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve, control=True)
    await look(catalog, 3)
    await catalog.unload("a")
    snapshot = await look(catalog, 4)
    assert snapshot.cards["a"].state == "unavailable"
    assert serve.deleted == ["a"]
    assert (folder / ".unloaded").exists()
    del serve.apps["a"]
    await catalog.load("a")
    assert (await look(catalog, 3)).cards["a"].state == "ready"


@pytest.mark.parametrize("refusal", [ValueError, OverflowError])
async def test_card_has_the_reason_of_a_refused_deployment(
    serve: Serve, tmp_path: Path, refusal: type[Exception]
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    serve.refusal = refusal("no such option")
    card = (await look(catalog, 3)).cards["a"]
    assert (card.state, card.reason) == ("unavailable", "a/config.yml: `deployment`: no such option")
    serve.refusal = None
    add(tmp_path, "a", f"module_id: {ID}\nbatching: {{max_batch_size: 3}}")
    assert (await look(catalog, 4)).cards["a"].state == "ready"


async def test_deploy_again_after_a_connection_error(serve: Serve, tmp_path: Path) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    serve.refusal = ConnectionError("the controller is away")
    await catalog._reconcile()
    with pytest.raises(ConnectionError):
        await catalog._reconcile()
    serve.refusal = None
    assert (await look(catalog)).cards["a"].state == "ready"


@pytest.mark.parametrize(
    "odd",
    [
        "deployment: {ray_actor_options: {runtime_env: {env_vars: {D: 2024-01-01}}}}",
        "deployment: {ray_actor_options: {resources: {1: 2, a: 3}}}",
        'deployment: {autoscaling_config: {policy: {policy_function: "no.such:thing"}}}',
        "hf_model: " + "a" * 300,
    ],
)
async def test_faulty_folder_does_not_affect_others(serve: Serve, tmp_path: Path, odd: str) -> None:
    add(tmp_path, "odd", f"module_id: {ID}\n{odd}")
    add(tmp_path, "good")
    cards = (await look(Catalog(str(tmp_path), serve=serve), 3)).cards
    assert cards["good"].state == "ready"
    assert cards["odd"].reason.startswith("odd/config.yml") or cards["odd"].state == "ready"


async def test_external_application_keeps_its_name(serve: Serve, tmp_path: Path) -> None:
    serve.apps["theirs"] = app(None)
    add(tmp_path, "theirs")
    add(tmp_path, "good")
    cards = (await look(Catalog(str(tmp_path), serve=serve), 3)).cards
    assert cards["good"].state == "ready"
    assert "rename the folder" in cards["theirs"].reason
    assert serve.ran == [("good", True)]


async def test_blocked_rollout_stops_the_old_replica_first(serve: Serve, tmp_path: Path) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    folder = catalog._reconciliation.folders.scan()["a"]
    serve.apps["a"] = rolling(folder, waited_s=29.0)
    await catalog._reconcile()
    assert serve.ran == [("a", True)]
    serve.apps["a"] = rolling(folder, waited_s=31.0, node_id="n")  # it has its place, and loads
    await catalog._reconcile()
    assert serve.ran == [("a", True)]
    serve.apps["a"] = rolling(folder, waited_s=31.0)
    await catalog._reconcile()
    assert serve.ran[-1] == ("a", False)


async def test_blocked_rollout_waits_for_the_autoscaler(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    serve.shares = NodeResources({"CPU": 2.0}, may_grow=True)
    serve.apps["a"] = rolling(catalog._reconciliation.folders.scan()["a"], waited_s=31.0)
    await look(catalog)
    assert serve.ran == [("a", True)]
    monkeypatch.setattr(reconciliation, "NEW_NODE_S", -1.0)
    await look(catalog, 1)
    assert serve.ran[-1] == ("a", False)


def fail(serve: Serve, folder: ModelFolder, running: int = 0) -> None:
    """Return the details of an application that Serve has given up."""
    failed = app(folder, running, status="DEPLOY_FAILED", message="Trace\nOSError: the Hub is away")
    serve.apps[folder.id] = {**failed, "status": "DEPLOY_FAILED"}


async def test_retry_keeps_the_reason_of_the_failure(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        add(tmp_path, name)
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    fail(serve, catalog._reconciliation.folders.scan()["a"])
    assert (await look(catalog)).cards["a"].reason == "OSError: the Hub is away"
    assert len(serve.ran) == 2, "not before a while"
    monkeypatch.setattr(retries, "FIRST_S", -1.0)
    catalog._reconciliation._retries = retries.Retries()
    await look(catalog, 1)
    assert serve.ran[2:] == [("a", True)], "alone"
    starting = serve.apps["a"]
    starting.update(status="DEPLOYING")
    starting["deployments"]["model"].update(replicas=[{"state": "STARTING"}])
    card = (await look(catalog)).cards["a"]
    assert (card.state, card.reason) == ("unavailable", "OSError: the Hub is away")
    starting.update(status="RUNNING")
    starting["deployments"]["model"].update(replicas=[{"state": "RUNNING", "replica_id": "old"}])
    card = (await look(catalog)).cards["a"]
    assert (card.state, card.reason) == ("ready", "")
    assert len(serve.ran) == 3


async def test_blocked_rollout_of_a_failed_model_keeps_the_old_replica(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    fail(serve, catalog._reconciliation.folders.scan()["a"], running=1)
    monkeypatch.setattr(retries, "FIRST_S", -1.0)
    await look(catalog, 1)
    serve.apps["a"].update(status="DEPLOYING")
    waiting = {"state": "STARTING", "node_id": None, "start_time_s": 0.0}
    serve.apps["a"]["deployments"]["model"]["replicas"].append(waiting)
    await look(catalog)
    assert serve.ran == [("a", True)] * 2


async def test_touch_of_config_retries_a_failed_model(serve: Serve, tmp_path: Path) -> None:
    folders = [add(tmp_path, name) for name in ("a", "b")]
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    fail(serve, catalog._reconciliation.folders.scan()["a"])
    await look(catalog)
    for folder in folders:
        os.utime(folder / "config.yml", (1, 1))
    await look(catalog, 3)
    assert serve.ran[2:] == [("a", True)]


async def test_model_that_waits_for_a_node_does_not_delay_startup(serve: Serve, tmp_path: Path) -> None:
    serve.shares = NodeResources({"CPU": 2.0}, may_grow=True)
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    catalog._reconciliation.folders.scan()
    waiting = app(catalog._reconciliation.folders.scan()["a"], running=0, required_resources={"GPU": 1.0})
    serve.apps["a"] = {**waiting, "status": "DEPLOYING"}
    snapshot = await look(catalog)
    assert (snapshot.cards["a"].state, snapshot.startup_complete) == ("loading", True)


async def test_first_snapshot_precedes_the_first_deployment(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    catalog._reconciliation.folders.scan()
    states: list[str] = []

    async def note(*_: Any) -> None:
        states.append(catalog.snapshot.cards["a"].state)

    monkeypatch.setattr(serve, "deploy", note)
    await look(catalog, 1)
    assert states == ["loading"]


async def test_edit_that_cannot_be_served_leaves_the_last_good_version(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    assert (await look(catalog, 3)).cards["a"].state == "ready"
    ran = [*serve.ran]
    for content in (
        "module_id: [",
        f"module_id: {ID}\nunknown: 1",
        "module_id: no-such-module",
        f"module_id: {ID}\nengine: 3",
    ):
        (folder / "config.yml").write_text(content)
        card = (await look(catalog, 3)).cards["a"]
        assert card.state == "ready" and card.task, "its requests still reach it"
        assert card.reason.startswith(
            "the current content of its folder is refused, and the last good version"
        )
        assert "a/config.yml" in card.reason and card.reason in caplog.text
    assert serve.ran == ran and not serve.deleted
    (folder / "config.yml").write_text(f"module_id: {ID}\nbatching: {{max_batch_size: 3}}")
    card = (await look(catalog, 4)).cards["a"]
    assert (card.state, card.reason) == ("ready", "")


async def test_edit_of_a_model_that_does_not_serve_makes_it_unavailable(serve: Serve, tmp_path: Path) -> None:
    folder = add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    serve.apps["a"]["status"] = "DEPLOY_FAILED"
    serve.apps["a"]["deployments"]["model"] |= {"replicas": [], "message": "no"}
    (folder / "config.yml").write_text("module_id: [")
    card = (await look(catalog, 4)).cards["a"]
    assert card.state == "unavailable" and "a/config.yml" in card.reason
