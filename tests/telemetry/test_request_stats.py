"""ModelStats of one model, put together from what several Routers have seen."""

import pickle

import pytest

from deployments.results import InferenceResults, Usage
from deployments.telemetry.request_stats import RequestStats, Totals, put_together


def test_requests_latencies_and_what_is_in_flight() -> None:
    one, other = RequestStats(), RequestStats()
    for stats in (one, one, other):
        with stats.request("a"):
            pass
    with one.request("a"):
        readings = [pickle.loads(pickle.dumps(stats.read()))["a"] for stats in (one, other)]
    figures = put_together("a", readings)
    assert figures.requests_per_second == pytest.approx(0.3)
    assert figures.in_flight == 1
    assert figures.p50_ms is not None
    assert figures.p95_ms is not None
    assert 0 <= figures.p50_ms <= figures.p95_ms < 1000


def test_what_nobody_asked_has_no_latency() -> None:
    assert put_together("a", []).model_dump() == {
        "id": "a",
        "requests_per_second": 0.0,
        "p50_ms": None,
        "p95_ms": None,
        "in_flight": 0,
        "totals": Totals().model_dump(),
    }


def test_totals_add_up() -> None:
    one, other = RequestStats(), RequestStats()
    for stats in (one, other):
        with stats.request("a") as reading:
            reading.add(
                InferenceResults(["x", "y"], Usage(costs=[3, 4], queued_s=0.5, inference_s=1.0, batches=[4]))
            )
    with pytest.raises(ValueError, match="no"), one.request("a"):
        raise ValueError("no")
    totals = put_together("a", [stats.read()["a"] for stats in (one, other)]).totals
    assert (totals.succeeded, totals.failed, totals.inputs, totals.cost) == (2, 1, 4, 14)
    assert (totals.queued_s, totals.inference_s) == (1.0, 2.0)
    assert totals.batches == 1.0, "each had half of a batch of four"
    assert totals.last is not None


def test_what_was_long_ago_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    for _ in range(5):
        with stats.request("a"):
            pass
    before = put_together("a", [stats.read()["a"]]).totals
    assert len(stats.read()["a"].ended) == 5
    monkeypatch.setattr("deployments.telemetry.request_stats.WINDOW_S", -1.0)
    assert len(stats.read()["a"].ended) == 1
    assert put_together("a", [stats.read()["a"]]).totals == before


def test_models_that_are_gone_are_forgotten_when_their_last_request_has_ended() -> None:
    stats = RequestStats()
    for id in "abc":
        with stats.request(id):
            pass
    with stats.request("b"):
        stats.keep({"a": "its card"})
        assert set(stats.read()) == {"a", "b"}
    stats.keep({"a": "its card"})
    assert set(stats.read()) == {"a"}


def test_what_was_long_ago_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    with stats.request("a"):
        pass
    monkeypatch.setattr("deployments.telemetry.request_stats.WINDOW_S", -1.0)
    assert put_together("a", [stats.read()["a"]]).p50_ms is None
