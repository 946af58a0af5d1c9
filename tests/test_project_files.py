"""Files that must stay true: the README, the configurations, the constraints, the lint rules."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployments.cluster import environment

ROOT = Path(__file__).parents[1]


def test_readme_has_no_placeholder() -> None:
    assert "@@" not in (ROOT / "README.md").read_text(encoding="utf-8")


def test_cluster_yaml_matches_rays_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(cluster))
    types = cluster["available_node_types"]
    assert "GPU" not in types[cluster["head_node_type"]]["resources"]
    workers = [kind for name, kind in types.items() if name != cluster["head_node_type"]]
    assert all(kind["min_workers"] == 0 and kind["resources"]["GPU"] for kind in workers)
    for command in (*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]):
        assert "ray start" not in command or "deployments.cluster.environment" in command


def test_serve_config_matches_serves_schema() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serve_config.yaml").read_text()))
    assert [app.route_prefix for app in config.applications] == ["/"], "exactly one application has a route"


def test_environment_is_printed_for_a_shell() -> None:
    command = f'eval "$({sys.executable} -m deployments.cluster.environment)" && env -0'
    shell = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    variables = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    assert variables.items() >= environment.environment(environment.available()).items()


def test_environment_keeps_variables_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    assert environment.environment(high_throughput=True)["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert "RAY_SERVE_THROUGHPUT_OPTIMIZED" not in environment.environment(high_throughput=False)


def test_constraints_pin_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


@pytest.mark.parametrize(
    ("file", "code", "found"),
    [
        ("deployments/routing/router.py", "import ray._private.worker\n", 1),
        ("deployments/routing/router.py", "def late():\n    from ray.serve._private.common import X\n", 1),
        ("deployments/routing/router.py", "import ray\n\n\ndef late():\n    return ray._private.worker\n", 1),
        ("deployments/catalog/catalog.py", "from ray.serve.context import _get_global_client\n", 1),
        ("deployments/tasks/sentiment.py", "def load():\n    from transformers import masking_utils\n", 1),
        ("tests/routing/test_router.py", "from ray.core.generated import gcs_pb2\n", 1),
        ("deployments/cluster/ray_private/handles.py", "from ray.serve import _private\n", 0),
        (
            "deployments/engines/torch/generation.py",
            "def f():\n    from transformers import cache_utils\n",
            0,
        ),
        ("deployments/routing/router.py", "from ray import serve\n", 0),
    ],
)
def test_ruff_finds_private_api_outside_its_packages(file: str, code: str, found: int) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--stdin-filename", file, "-"]
    run = subprocess.run(command, input=code, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode in (0, 1), run.stderr
    assert run.stdout.count("TID251") == found, run.stdout
