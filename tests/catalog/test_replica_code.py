"""The code version covers what a replica imports, and nothing else."""

import multiprocessing
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.catalog import replica_code
from deployments.catalog.replica_code import REPLICA, digest_of_imports, imported_by
from deployments.cluster import warm_workers
from tests.catalog.loaded_modules import loaded_modules

MODELS = Path(__file__).parents[2] / "models"
TASK = "deployments.tasks.text_generation"
SOURCES = replica_code._sources()


def version(sources: Mapping[str, str] = SOURCES, task: str = TASK) -> str:
    return digest_of_imports((REPLICA, task), sources)


@pytest.mark.parametrize(
    "module",
    [
        TASK,
        REPLICA,
        "deployments",
        "deployments.schema",
        "deployments.config.model_config",
        "deployments.cluster.ray_private.replicas",
        "deployments.engines.checkpoint",
        "deployments.engines.vllm",  # imported inside a function
        "deployments.pipelines.text_generator",
        "deployments.replica.batcher",
    ],
)
def test_code_version_covers_replica_code(module: str) -> None:
    assert version({**SOURCES, module: SOURCES[module] + "\n# edited"}) != version()


@pytest.mark.parametrize("package", ["gateway", "dialects", "wire", "routing", "reference", "catalog", "app"])
def test_code_version_ignores_gateway_and_catalog(package: str) -> None:
    edited = {
        name: text + "\n# edited" for name, text in SOURCES.items() if name.split(".")[1:2] == [package]
    }
    assert edited
    assert version({**SOURCES, **edited}) == version()


def test_code_version_covers_only_the_models_own_task() -> None:
    edited = {**SOURCES, TASK: SOURCES[TASK] + "\n# edited"}
    assert version(edited, "deployments.tasks.sentiment") == version(task="deployments.tasks.sentiment")
    assert version(task="deployments.tasks.sentiment") != version()


def test_imports_in_functions_branches_and_strings() -> None:
    sources = {
        "a": "if TYPE_CHECKING:\n    import typing_only\nelse:\n    import b",
        "b": "def late():\n    from c import d, function",
        "c": "",
        "c.d": "TABLE = {'name': 'e.f:Engine'}",
        "e": "import os",
        "e.f": "import a",
        "typing_only": "",
        "unrelated": "",
    }
    assert imported_by(["a", "no.such.module"], sources) == {"a", "b", "c", "c.d", "e", "e.f"}


@pytest.mark.model
def test_code_version_covers_all_imports_of_loaded_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folders = sorted(path.parent for path in MODELS.glob("*/config.yml"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(warm_workers.MODULES))
    with context.Pool(1, maxtasksperchild=1) as processes:
        loaded = processes.map(loaded_modules, folders, chunksize=1)
    assert len(loaded) == len(folders) > 0
    for task, at_start, later in loaded:
        covered = imported_by((REPLICA, task), SOURCES)
        others = {name for name in at_start if name.startswith("deployments.tasks.")} - {task}
        assert later <= covered
        assert at_start <= covered | imported_by(others, SOURCES)  # all tasks are registered at start
