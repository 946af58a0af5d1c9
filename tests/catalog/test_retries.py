"""Retries of failed models: the pauses, and the metadata that counts them."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.catalog import retries
from deployments.catalog.applications import bind
from deployments.catalog.model_folders import ModelFolder
from deployments.config.yaml_file import parse
from tests.catalog.test_catalog import ID, app


def test_retry_pauses_double_up_to_ten_minutes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(retries, "time", SimpleNamespace(monotonic=lambda: clock))
    folder = ModelFolder("a", tmp_path / "a", None, fingerprint="1")
    tries, times = retries.Retries(), []
    while len(times) < 8:
        failed = {**app(folder, running=0, message="ValueError: no"), "status": "DEPLOY_FAILED"}
        if due := tries.due({"a": folder}, {"a": failed}):
            folder = due[0]
            times.append(clock)
        clock += 10
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == sorted(pauses)
    assert (times[0], pauses[0], pauses[-1]) == (40, 80, 620), "looked at every ten seconds"
    assert folder.failed == {"tries": 8, "reason": "ValueError: no"}
    edited = {"a": ModelFolder("a", tmp_path / "a", None, fingerprint="2")}
    tries.due(edited, {"a": failed})
    clock += 1000
    assert not tries.due(edited, {"a": failed}), "that is another model"


def test_no_retry_while_serve_itself_retries(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(retries, "time", SimpleNamespace(monotonic=lambda: clock))
    folder, tries = ModelFolder("a", tmp_path / "a", None, fingerprint="1"), retries.Retries()

    def due(times: int, state: str) -> list[ModelFolder]:
        failed = app(folder, running=0, message=f"it failed {times} times", replicas=[{"state": state}])
        failed["deployments"]["model"]["status_trigger"] = "REPLICA_STARTUP_FAILED"
        return tries.due({"a": folder}, {"a": {**failed, "status": "UNHEALTHY"}})

    for times in range(9):
        for _ in range(3):  # it pauses for a minute at most
            assert not due(times, "STOPPING")
            clock += 31
    clock += 2000
    assert not due(8, "STARTING"), "slowly"
    assert not due(9, "STOPPING")
    clock += 601
    assert due(9, "STOPPING"), "it has given up"


def test_retry_changes_the_options_but_not_the_version() -> None:
    config = parse({"module_id": ID}, "here")
    first, second = (
        bind(config, failed={"tries": tries, "reason": "no"})._bound_deployment for tries in (1, 2)
    )
    assert first.version == second.version
    assert first._deployment_config != second._deployment_config
