"""A model whose module changes: what its application's metadata and its cards say meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from deployments.catalog.app_metadata import METADATA_KEY, read_metadata
from deployments.catalog.catalog import Catalog
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.model_status import deployed_card, successor_card
from deployments.catalog.module_change import previous_module, served_facts
from deployments.cluster.nodes import NodeResources
from deployments.task import MODULES
from tests.catalog.test_catalog import ID, Serve, add, app, look
from tests.catalog.test_catalog import serve as serve

OTHER = "01A9FC92-EF27-4AE7-8D95-E2DC488302D4"
OLD, NEW = {"state": "RUNNING", "replica_id": "old"}, {"state": "RUNNING", "replica_id": "new"}
STARTING = {"state": "STARTING", "replica_id": "new", "node_id": "n"}
NODES = NodeResources({"CPU": 2.0})


def changing(tmp_path: Path, *replicas: dict[str, Any]) -> dict[str, Any]:
    """Return an application that was deployed with another module while the replica "old" ran."""
    folder = ModelFolder("a", tmp_path / "a", None)
    changed = app(folder, replicas=list(replicas))
    metadata = changed["deployments"]["model"]["deployment_config"]["user_config"][METADATA_KEY]
    metadata["previous"] = previous_module(app(folder), OTHER)
    return {**changed, "status": "DEPLOYING"} | _with_module(changed, OTHER)


def _with_module(application: dict[str, Any], module_id: str) -> dict[str, Any]:
    application["deployments"]["model"]["deployment_config"]["user_config"][METADATA_KEY].update(
        module_id=module_id, model="c/d"
    )
    return {"deployments": application["deployments"]}


def test_change_of_the_module_remembers_what_serves(tmp_path: Path) -> None:
    previous = previous_module(app(ModelFolder("a", tmp_path / "a", None)), OTHER)
    assert previous == {
        "module_id": ID,
        "model": "a/b",
        "revision": None,
        "folder": str(tmp_path / "a"),
        "replicas": ["old"],
    }


async def test_catalog_deploys_a_change_of_the_module_beside_the_old_replica(
    serve: Serve, tmp_path: Path
) -> None:
    add(tmp_path, "a")
    catalog = Catalog(str(tmp_path), serve=serve)
    await look(catalog, 3)
    add(tmp_path, "a", f"module_id: {OTHER}")
    await look(catalog)
    assert serve.ran == [("a", True), ("a", True)]
    assert [previous and previous["replicas"] for previous in serve.previous] == [None, ["old"]]


@pytest.mark.parametrize("replicas", [[OLD], [OLD, STARTING]])
def test_model_serves_its_old_module_until_the_new_one_runs(
    replicas: list[dict[str, Any]], tmp_path: Path
) -> None:
    application = changing(tmp_path, *replicas)
    card = deployed_card("a", application, None, NODES)
    assert (card.state, card.module_id, card.model) == ("ready", ID, "a/b")
    assert card.task == MODULES[ID].task.name
    successor = successor_card(application, card)
    assert successor is not None
    assert (successor.state, successor.module_id, successor.model) == ("ready", OTHER, "c/d")


@pytest.mark.parametrize("replicas", [[OLD, NEW], [NEW], [STARTING], []])
def test_model_serves_its_new_module_as_soon_as_that_runs(
    replicas: list[dict[str, Any]], tmp_path: Path
) -> None:
    application = changing(tmp_path, *replicas)
    card = deployed_card("a", application, None, NODES)
    assert (card.module_id, card.model) == (OTHER, "c/d")
    assert successor_card(application, card) is None


def test_module_that_does_not_start_leaves_the_old_one(tmp_path: Path) -> None:
    application = changing(tmp_path, OLD) | {"status": "DEPLOY_FAILED"}
    application["deployments"]["model"]["message"] = "Trace\nValueError: no"
    card = deployed_card("a", application, None, NODES)
    assert (card.state, card.module_id) == ("ready", ID)
    assert card.reason.endswith("the last good version serves: ValueError: no")


def test_next_change_keeps_what_serves(tmp_path: Path) -> None:
    third = "A2543F83-1520-416B-85E4-F2BCB6F63354"
    assert previous_module(changing(tmp_path, OLD, STARTING), third) == previous_module(
        app(ModelFolder("a", tmp_path / "a", None)), third
    )
    after = previous_module(changing(tmp_path, OLD, NEW), third)
    assert after is not None
    assert (after["module_id"], after["replicas"]) == (OTHER, ["new", "old"])


def test_retry_of_a_module_keeps_the_old_replicas(tmp_path: Path) -> None:
    application = changing(tmp_path, OLD, STARTING)
    assert previous_module(application, OTHER) == read_metadata(application)["previous"]


def test_change_back_needs_nothing(tmp_path: Path) -> None:
    assert previous_module(changing(tmp_path, OLD), ID) is None
    assert previous_module(changing(tmp_path, STARTING), ID) is None, "no replica serves"
    assert previous_module(None, ID) is None


def test_served_facts_are_the_metadata_without_a_change(tmp_path: Path) -> None:
    application = app(ModelFolder("a", tmp_path / "a", None))
    assert served_facts(application) == read_metadata(application)
