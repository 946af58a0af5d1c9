"""A model's deployment: its Serve options."""

from typing import Any

import pytest

from deployments.catalog.applications import bind
from deployments.catalog.deployment_options import options
from deployments.config.yaml_file import parse


@pytest.mark.parametrize(
    ("share", "threads"),
    [({}, "1"), ({"num_cpus": None}, "1"), ({"num_cpus": 0.5}, "1"), ({"num_cpus": 3}, "3")],
)
def test_replica_has_one_thread_per_cpu(share: dict[str, Any], threads: str) -> None:
    built = options({"ray_actor_options": share})["ray_actor_options"]["runtime_env"]["env_vars"]
    assert built["OMP_NUM_THREADS"] == threads


def test_options_of_the_model_override_defaults() -> None:
    own = {"num_cpus": 2, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "7"}}}
    built = options({"ray_actor_options": own, "num_replicas": 3})
    assert built["ray_actor_options"]["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "7"
    assert built["num_replicas"] == 3
    assert "autoscaling_config" not in built


def test_batching_limits_keep_the_version() -> None:
    id = "FADC770C-25C8-4685-A176-51FF67B382C1"
    few, many = (
        bind(parse({"module_id": id, "batching": {"max_batch_size": most}}, "here"))._bound_deployment
        for most in (4, 8)
    )
    assert [one.init_args[-1]["max_batch_size"] for one in (few, many)] == [4, 8]
    assert few.version == many.version
    assert few.user_config["batching"] == few.init_args[-1]


def test_default_autoscaling_and_environment() -> None:
    assert options({})["autoscaling_config"]["max_replicas"] == 4
    assert "autoscaling_config" not in options({"num_replicas": 2})
    given = {"ray_actor_options": {"num_gpus": 0.25, "runtime_env": {"env_vars": {"A": "b"}}}}
    actor = options(given)["ray_actor_options"]
    assert actor["num_gpus"] == 0.25
    assert actor["runtime_env"]["env_vars"]["A"] == "b"
    assert actor["runtime_env"]["env_vars"]["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
