"""Measurement of the batch budget: in little time, and never beyond memory."""

from typing import Any

import pytest

from deployments.errors import out_of_memory
from deployments.limits import Batching
from deployments.replica import batch_tuning as tuning
from deployments.schema import Schema, Text, Texts
from deployments.task import Encoded, Module, Task

EXAMPLES = ["eight ch", "ten chars."]


class In(Schema):
    text: Text
    others: Texts = ["one"]


class Params(Schema):
    pass


class Network(Module):
    """Advances a fake clock by `base + slope * cost`, more over `cache`; fails over `memory`."""

    task = Task("network", "Works.", In, Params, In, None, "network")
    padding_cost = 1.0

    def __init__(self, base: float, slope: float, cache: float = 1e9, memory: float = 1e9) -> None:
        self.base, self.slope, self.cache, self.memory = base, slope, cache, memory
        self.now, self.passes, self.slow = 0.0, [], set[int]()

    def encode(self, inputs: list[In], params: Params) -> list[Encoded]:
        return [Encoded(item, len(item.text)) for item in inputs]

    def run(self, inputs: list[In], params: Params) -> list[In]:
        cost = sum(len(item.text) for item in inputs)
        if cost > self.memory:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        self.passes.append(cost)
        self.now += self.base + self.slope * cost + self.slope * max(0, cost - self.cache)
        self.now += 0.5 if len(self.passes) in self.slow else 0.0
        return inputs


class Uncounted(Network):
    encode = Module.encode


class Pixels(Network):
    unit = "pixels"

    def encode(self, inputs: list[In], params: Params) -> list[Encoded]:
        return [Encoded(item, 500_000) for item in inputs]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Any:
    def measure(network: Network, **limits: int) -> tuning.BatchCapacity:
        monkeypatch.setattr(tuning, "perf_counter", lambda: network.now)
        return tuning.measure(network, Batching(**limits), [In(text=text) for text in EXAMPLES])

    return measure


def test_tuning_stops_at_the_rate_plateau(measured: Any) -> None:
    capacity = measured(Network(0.0064, 0.000245, cache=1200))
    assert 512 <= capacity.best <= 1200
    assert capacity.overhead == pytest.approx(0.0064 / 0.000245, rel=0.3)
    assert capacity.fill(Batching()).max_batch_tokens == capacity.best


def test_memory_bound_network_gets_large_passes(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    capacity = measured(network)
    assert capacity.best > 16_000
    assert capacity.overhead > 2000
    assert network.now < tuning.TUNING_S


def test_tuning_repeats_the_example_to_a_typical_length(measured: Any) -> None:
    network = Network(0.001, 0.0001)
    measured(network)
    assert network.passes[0] == sum(map(len, EXAMPLES))
    assert network.passes[1] == 8 * 8 + 7  # repeated, with spaces between
    assert tuning._repeat_text(In(text="a"), 3) == In(text="a a a", others=["one"] * 3)


@pytest.mark.parametrize("slow", [{2}, {2, 4}, {5}, {3, 6, 8}])
def test_noisy_measurements_are_repeated(measured: Any, slow: set[int]) -> None:
    network = Network(0.0064, 0.000245)
    network.slow = slow
    capacity = measured(network)
    assert 512 <= capacity.best <= 2200
    assert capacity.overhead < 100


def test_tuning_of_a_slow_network_is_short(measured: Any) -> None:
    network = Network(1.0, 0.01)
    capacity = measured(network)
    assert len(network.passes) <= 5
    assert capacity.best == 1024
    assert capacity.overhead >= 1024 / 32


def test_memory_limits_the_budget(measured: Any) -> None:
    capacity = measured(Network(0.005, 0.000001, memory=3000))
    assert capacity.budget(Batching()) <= 3000
    assert capacity.budget(Batching(max_batch_tokens=9000)) <= 3000
    assert capacity.after_failure(1000).after_failure(2000).budget(Batching()) == 500


@pytest.mark.parametrize("configured", [None, 9000])
def test_budget_grows_step_by_step_after_out_of_memory(measured: Any, configured: int | None) -> None:
    limits, budgets = Batching(max_batch_tokens=configured), []
    full = measured(Network(0.005, 0.000001))
    reduced = full.after_failure(1000)
    while reduced != full:
        reduced = reduced.recovered(full, limits)
        budgets.append(reduced.budget(limits))
    assert all(after <= 2 * before for before, after in zip([500, *budgets], budgets, strict=False))
    assert budgets[-1] == full.budget(limits)


def test_configured_limits_hold_while_tuning(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    capacity = measured(network, max_batch_tokens=700)
    assert capacity.budget(Batching(max_batch_tokens=700)) == 700
    assert max(network.passes) <= 700
    assert capacity.overhead > 100


def test_max_batch_size_limits_tuning(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    capacity = measured(network, max_batch_size=4)
    assert max(network.passes) <= 4 * 71
    assert capacity.best == 1024, "the default, because larger passes were not measured"


def test_image_budget_counts_pixels(measured: Any) -> None:
    assert measured(Pixels(0.0, 0.001)).fill(Batching()) == Batching(max_batch_pixels=500_000)
    many = measured(Pixels(0.01, 0.0000001)).fill(Batching())
    assert many.max_batch_pixels and many.max_batch_pixels > 4_000_000
    assert many.max_batch_tokens is None


def test_budget_without_encode_counts_inputs(measured: Any) -> None:
    assert measured(Uncounted(0.0, 0.001)).fill(Batching()).max_batch_size == 1
    assert measured(Uncounted(0.01, 0.000001)).fill(Batching()).max_batch_size == 256
    assert measured(Uncounted(0.01, 0.000001)).fill(Batching(max_batch_size=9)).max_batch_size == 9


def test_unmeasurably_short_passes_do_not_limit_the_budget(measured: Any) -> None:
    assert measured(Uncounted(base=0.0, slope=1e-7)).best == 256


def test_failing_examples_raise() -> None:
    with pytest.raises(RuntimeError, match="allocate"):
        tuning.measure(Network(0, 0, memory=3), Batching(), [In(text=text) for text in EXAMPLES])


@pytest.mark.parametrize(("error", "expected"), [
    (MemoryError(), True), (RuntimeError("CUDA out of memory. Tried to allocate"), True),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
    (RuntimeError("shapes do not match"), False),
])  # fmt: skip
def test_out_of_memory_errors_are_recognized(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
