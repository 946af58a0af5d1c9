"""The phase of a starting replica, in Ray's key-value store."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.experimental import internal_kv

from deployments.cluster.ray_private import startup_phase
from deployments.cluster.ray_private.startup_phase import publish_phase, read_phase


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """Put a dict in the place of Ray's store, in a replica of the application "a"."""
    entries: dict[Any, Any] = {}
    context = SimpleNamespace(app_name="a", replica_id=SimpleNamespace(unique_id="r1"))
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: context)
    put, get = entries.__setitem__, entries.get
    monkeypatch.setattr(internal_kv, "_internal_kv_put", lambda key, value, *, namespace: put(key, value))
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda key, *, namespace: get(key))
    return entries


def test_published_phase_is_read(entries: dict[Any, Any]) -> None:
    publish_phase("reading the weights")
    publish_phase("warming up")
    assert read_phase("a", {"r0", "r1"}) == "warming up"


def test_phase_of_an_earlier_replica_is_ignored(entries: dict[Any, Any]) -> None:
    publish_phase("reading the weights")
    assert read_phase("a", {"r2"}) == ""
    assert read_phase("b", {"r1"}) == ""


def test_failure_of_the_store_does_not_stop_the_start(
    entries: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_phase, "_store", lambda: None)
    publish_phase("reading the weights")


def test_phase_is_not_published_without_a_cluster() -> None:
    publish_phase("reading the weights")
    assert read_phase("a", {"r1"}) == ""
