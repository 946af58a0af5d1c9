"""Which heavy packages the import of a module may load into a process."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "gradio", "PIL", "numpy")


def loaded_by(module: str, *names: str) -> set[str]:
    code = f"import sys, {module}; print(*[name for name in {names!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module", ["deployments.tasks", "deployments.dialects", "deployments.routing.router", "deployments.app"]
)
def test_gateway_imports_no_torch(module: str) -> None:
    assert loaded_by(module, "torch", "transformers", "gradio") == set()


@pytest.mark.parametrize(
    "module", ["deployments.errors", "deployments.schema", "deployments.task", "deployments.tasks"]
)
def test_tasks_import_nothing_heavy(module: str) -> None:
    assert loaded_by(module, *HEAVY, "ray", "starlette") == set()


def test_ui_imports_no_torch() -> None:
    assert loaded_by("ui.app", "torch", "transformers", "ray") == set()


def test_replica_imports_no_gradio_and_no_pandas() -> None:
    assert loaded_by("deployments.replica.model_replica, torch, transformers", "gradio", "pandas") == set()


def test_pandas_can_be_imported_after_ray_serve() -> None:
    assert loaded_by("deployments.cluster.ray_private.replicas, pandas", "pandas") == {"pandas"}
