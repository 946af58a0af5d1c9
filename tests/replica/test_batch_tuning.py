"""The budget of a pass is found by trying, in little time, and never beyond memory."""

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
    """Takes `base + slope * cost` seconds of a clock of its own, more over `cache`; fails over `memory`."""

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


def test_it_stops_where_more_does_no_more(measured: Any) -> None:
    found = measured(Network(0.0064, 0.000245, cache=1200))
    assert 512 <= found.best_cost <= 1200
    assert found.overhead == pytest.approx(0.0064 / 0.000245, rel=0.3)
    assert found.fill(Batching()).max_batch_tokens == found.best_cost


def test_a_network_that_waits_for_its_weights_gets_large_passes(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    found = measured(network)
    assert found.best_cost > 16_000
    assert found.overhead > 2000
    assert network.now < tuning.MAX_TUNING_S


def test_texts_of_a_usual_length_are_tried(measured: Any) -> None:
    network = Network(0.001, 0.0001)
    measured(network)
    assert network.passes[0] == sum(map(len, EXAMPLES))
    assert network.passes[1] == 8 * 8 + 7  # repeated, with spaces between
    assert tuning._repeated(In(text="a"), 3) == In(text="a a a", others=["one"] * 3)


@pytest.mark.parametrize("slow", [{2}, {2, 4}, {5}, {3, 6, 8}])
def test_a_pass_that_something_else_has_slowed_is_repeated(measured: Any, slow: set[int]) -> None:
    network = Network(0.0064, 0.000245)
    network.slow = slow
    found = measured(network)
    assert 512 <= found.best_cost <= 2200
    assert found.overhead < 100


def test_a_slow_network_is_not_tried_for_long(measured: Any) -> None:
    network = Network(1.0, 0.01)
    found = measured(network)
    assert len(network.passes) <= 5
    assert found.best_cost == 1024
    assert found.overhead >= 1024 / 32


def test_memory_is_the_ceiling(measured: Any) -> None:
    found = measured(Network(0.005, 0.000001, memory=3000))
    assert found.budget(Batching()) <= 3000
    assert found.budget(Batching(max_batch_tokens=9000)) <= 3000
    assert found.lowered(1000).lowered(2000).budget(Batching()) == 500


@pytest.mark.parametrize("configured", [None, 9000])
def test_after_lack_of_memory_it_grows_step_by_step(measured: Any, configured: int | None) -> None:
    limits, budgets = Batching(max_batch_tokens=configured), []
    most = measured(Network(0.005, 0.000001))
    less = most.lowered(1000)
    while less != most:
        less = less.raised(most, limits)
        budgets.append(less.budget(limits))
    assert all(after <= 2 * before for before, after in zip([500, *budgets], budgets, strict=False))
    assert budgets[-1] == most.budget(limits)


def test_what_is_configured_holds(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    found = measured(network, max_batch_tokens=700)
    assert found.budget(Batching(max_batch_tokens=700)) == 700
    assert max(network.passes) <= 700
    assert found.overhead > 100


def test_so_many_inputs_as_are_configured_are_the_most(measured: Any) -> None:
    network = Network(0.005, 0.000001)
    found = measured(network, max_batch_size=4)
    assert max(network.passes) <= 4 * 71
    assert found.best_cost == 1024, "what is usual, for larger passes have not been tried"


def test_pictures_are_counted_by_pixels(measured: Any) -> None:
    assert measured(Pixels(0.0, 0.001)).fill(Batching()) == Batching(max_batch_pixels=500_000)
    many = measured(Pixels(0.01, 0.0000001)).fill(Batching())
    assert many.max_batch_pixels and many.max_batch_pixels > 4_000_000
    assert many.max_batch_tokens is None


def test_without_encode_inputs_are_counted(measured: Any) -> None:
    assert measured(Uncounted(0.0, 0.001)).fill(Batching()).max_batch_size == 1
    assert measured(Uncounted(0.01, 0.000001)).fill(Batching()).max_batch_size == 256
    assert measured(Uncounted(0.01, 0.000001)).fill(Batching(max_batch_size=9)).max_batch_size == 9


def test_a_pass_that_takes_no_time_is_no_reason_for_small_ones(measured: Any) -> None:
    assert measured(Uncounted(base=0.0, slope=1e-7)).best_cost == 256


def test_a_model_that_fails_its_examples_is_told() -> None:
    with pytest.raises(RuntimeError, match="allocate"):
        tuning.measure(Network(0, 0, memory=3), Batching(), [In(text=text) for text in EXAMPLES])


@pytest.mark.parametrize(("error", "is_it"), [
    (MemoryError(), True), (RuntimeError("CUDA out of memory. Tried to allocate"), True),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
    (RuntimeError("shapes do not match"), False),
])  # fmt: skip
def test_lack_of_memory_is_known_by_its_message(error: Exception, is_it: bool) -> None:
    assert out_of_memory(error) is is_it
