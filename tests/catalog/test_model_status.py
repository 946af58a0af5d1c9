"""What a card says of an application, by Serve's details of it."""

from pathlib import Path

from ray.serve.schema import ReplicaDetails

from deployments.card import Description
from deployments.catalog.deployment_options import RUNTIME_ENV
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.model_status import REFUSED, deployed_card, redact_paths, replicas_on_warm_workers
from deployments.catalog.serve_messages import reason_of
from deployments.cluster.nodes import NodeResources
from tests.catalog.test_catalog import app


def test_serve_schema_has_node_and_start_time_of_replicas() -> None:
    assert {"replica_id", "state", "node_id", "start_time_s"} <= ReplicaDetails.model_fields.keys()


def test_replicas_on_warm_workers() -> None:
    replicas = [
        {"state": state, "replica_id": id, "node_id": f"node of {id}"}
        for id, state in (("a", "RUNNING"), ("b", "STARTING"))
    ]
    one = app(None, replicas=replicas)
    config = one["deployments"]["model"]["deployment_config"]
    assert replicas_on_warm_workers({"id": one}) == {}
    config["ray_actor_options"] = {"runtime_env": RUNTIME_ENV}
    assert replicas_on_warm_workers({"id": one}) == {"a": "node of a"}
    for other in ({"env_vars": {**RUNTIME_ENV["env_vars"], "A": "1"}}, {**RUNTIME_ENV, "py_executable": "x"}):
        config["ray_actor_options"] = {"runtime_env": other}
        assert replicas_on_warm_workers({"id": one}) == {}


def test_card_reason_names_missing_resources(tmp_path: Path) -> None:
    folder = ModelFolder("a", tmp_path / "a", None)
    wants = {**app(folder, running=0, required_resources={"GPU": 8.0}), "status": "DEPLOYING"}
    card = deployed_card("a", wants, None, NodeResources({"GPU": 4.0}))
    assert (card.state, card.reason) == ("unavailable", "a replica wants 8 GPU, and no node has more than 4")
    card = deployed_card("a", wants, None, NodeResources({"GPU": 4.0}, may_grow=True))
    assert (card.state, card.reason) == ("loading", "a replica wants 8 GPU, and no node has more than 4")
    failed = {**app(folder, running=0, message="Trace\nValueError: no"), "status": "DEPLOY_FAILED"}
    assert deployed_card("a", failed, None, NodeResources({"CPU": 2.0})).reason == "ValueError: no"
    assert (
        deployed_card("a", {**failed, "status": "DELETING"}, None, NodeResources({})).state == "unavailable"
    )


def test_description_clears_an_earlier_failure(tmp_path: Path) -> None:
    folder = ModelFolder("a", tmp_path / "a", None, failed={"tries": 1, "reason": "no"})
    again = {**app(folder, running=0), "status": "DEPLOYING"}  # as after a restart of Serve's controller
    description = Description.model_construct(device="cpu")
    shares = NodeResources({"CPU": 2.0})
    assert deployed_card("a", again, None, shares).state == "unavailable"
    assert deployed_card("a", again, description, shares).state == "loading"


def test_reasons_have_no_traceback_and_no_paths() -> None:
    trace = 'ray::x\n  File "/a/b/c.py", line 7\ndeployments.errors.ModelNotReady: it has no weights'
    assert reason_of(trace) == "it has no weights"
    assert reason_of("just a message") == "just a message"
    assert redact_paths("'/srv/data/models/a' is broken") == "'models/a' is broken"
    assert redact_paths("see https://huggingface.co/a/b/c") == "see https://huggingface.co/a/b/c"


def test_update_that_fails_leaves_the_last_good_version(tmp_path: Path) -> None:
    folder, nodes = ModelFolder("a", tmp_path / "a", None), NodeResources({"CPU": 2.0})
    update = {**app(folder, message="Trace\nValueError: no"), "status": "DEPLOY_FAILED"}
    card = deployed_card("a", update, None, nodes)
    assert card.state == "ready"
    assert card.reason == f"{REFUSED}ValueError: no"
    assert deployed_card("a", {**update, "status": "RUNNING"}, None, nodes).reason == "ValueError: no"


def test_reasons_of_slow_starts_are_plain(tmp_path: Path) -> None:
    serve = "Deployment 'model' in application 'a' has {} replicas that have taken more than 30s to {}."
    scheduled = reason_of(serve.format(1, "be scheduled"))
    assert scheduled == "a replica waits for a node with free resources, or for its runtime environment"
    assert reason_of(serve.format(2, "initialize")) == "2 replicas wait for its weights to load"


def test_model_at_zero_replicas_is_asleep(tmp_path: Path) -> None:
    folder = ModelFolder("a", tmp_path / "a", None)
    card = deployed_card(
        "a", app(folder, running=0, target_num_replicas=0), None, NodeResources({"CPU": 2.0})
    )
    assert (card.state, card.reason) == ("ready", "asleep: no replica runs, and the next request starts one")
