"""Statistics of one model, aggregated from the counters of several Routers."""

import pickle

import pytest

from deployments.results import InferenceResults, Usage
from deployments.telemetry.request_stats import RequestStats, Totals, aggregate


def test_rate_latencies_and_requests_in_flight() -> None:
    one, other = RequestStats(), RequestStats()
    for stats in (one, one, other):
        with stats.request("a"):
            pass
    with one.request("a"):
        counters = [pickle.loads(pickle.dumps(stats.report()))["a"] for stats in (one, other)]
    statistics = aggregate("a", counters)
    assert statistics.requests_per_second == pytest.approx(0.3)
    assert statistics.in_flight == 1
    assert statistics.p50_ms is not None
    assert statistics.p95_ms is not None
    assert 0 <= statistics.p50_ms <= statistics.p95_ms < 1000


def test_model_without_requests_has_no_latency() -> None:
    assert aggregate("a", []).model_dump() == {
        "id": "a",
        "requests_per_second": 0.0,
        "p50_ms": None,
        "p95_ms": None,
        "in_flight": 0,
        "totals": Totals().model_dump(),
    }


def test_totals_are_summed_over_routers() -> None:
    one, other = RequestStats(), RequestStats()
    for stats in (one, other):
        with stats.request("a") as counters:
            counters.add(
                InferenceResults(["x", "y"], Usage(costs=[3, 4], queued_s=0.5, inference_s=1.0, batches=[4]))
            )
    with pytest.raises(ValueError, match="no"), one.request("a"):
        raise ValueError("no")
    totals = aggregate("a", [stats.report()["a"] for stats in (one, other)]).totals
    assert (totals.succeeded, totals.failed, totals.inputs, totals.cost) == (2, 1, 4, 14)
    assert (totals.queued_s, totals.inference_s) == (1.0, 2.0)
    assert totals.batches == 1.0, "each request had half of a batch of four"
    assert totals.last is not None


def test_old_requests_are_not_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    for _ in range(5):
        with stats.request("a"):
            pass
    before = aggregate("a", [stats.report()["a"]]).totals
    assert len(stats.report()["a"].ended) == 5
    monkeypatch.setattr("deployments.telemetry.request_stats.WINDOW_S", -1.0)
    assert len(stats.report()["a"].ended) == 1
    assert aggregate("a", [stats.report()["a"]]).totals == before


def test_counters_of_removed_models_are_dropped_after_their_last_request() -> None:
    stats = RequestStats()
    for id in "abc":
        with stats.request(id):
            pass
    with stats.request("b"):
        stats.retain({"a": "its card"})
        assert set(stats.report()) == {"a", "b"}
    stats.retain({"a": "its card"})
    assert set(stats.report()) == {"a"}


def test_old_requests_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    with stats.request("a"):
        pass
    monkeypatch.setattr("deployments.telemetry.request_stats.WINDOW_S", -1.0)
    assert aggregate("a", [stats.report()["a"]]).p50_ms is None
