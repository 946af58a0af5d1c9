"""The Router without Ray: what it makes of the catalog's cards, of bad input and of Ray's own errors."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deployments.card import Card, Replicas, Snapshot
from deployments.errors import (
    Forbidden,
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    TimedOut,
    TooLarge,
)
from deployments.results import InferenceResults
from deployments.routing import model_client
from deployments.routing.model_client import MAX_ATTEMPTS
from deployments.routing.router import Router
from deployments.schema import MAX_TEXT
from deployments.task import TASKS

SENTIMENT = TASKS["sentiment"]
READY = Card(id="m", state="ready", task="sentiment", replicas=Replicas(running=2))


class Handle:
    """Stands for the Catalog's DeploymentHandle, and for a ReplicaSet: each call is answered, in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.running_modules: set[str] = set()

    def __getattr__(self, name: str) -> "Handle":
        return self

    def remote(self, *_: Any) -> "asyncio.Task[Any]":
        return asyncio.get_running_loop().create_task(self.call())

    def close(self) -> None:
        pass

    def modules(self) -> set[str]:
        return self.running_modules

    def report_queued(self, requests: int) -> None:
        pass

    async def call(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if self.answers else await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def make() -> Any:
    made: list[Router] = []

    def build(
        *answers: Any, card: Card = READY, timeout_s: float = 5, snapshots: list[Snapshot] | None = None
    ) -> tuple[Router, Handle]:
        snapshots, model = snapshots or [Snapshot("1", True, {card.id: card})], Handle(*answers)
        router = Router(Handle(*snapshots), [], timeout_s, connect=lambda _: model)
        made.append(router)
        return router, model

    yield build
    for router in made:
        router._task.cancel()
        router._reporting.cancel()


async def ask(router: Router) -> Any:
    await asyncio.wait_for(router.check_health(), 1)
    inputs, params = await router.validator.validate(SENTIMENT, "huggingface", [{"text": "good"}], {})
    return await router.infer("m", inputs, params)


Make = Callable[..., tuple[Router, Handle]]


async def test_infer_returns_the_outputs(make: Make) -> None:
    router, _ = make(InferenceResults(["answer"]))
    assert await ask(router) == ["answer"]
    assert router.startup_complete
    assert router.task("m") is SENTIMENT


async def test_removed_model_is_not_counted(make: Make) -> None:
    router, _ = make(InferenceResults(["answer"]))
    await ask(router)
    assert set(router._stats.report()) == {"m"}
    router._apply_snapshot(Snapshot("2", True, {}))
    assert not router._stats.report()


async def test_call_is_retried_after_replica_death(make: Make) -> None:
    router, handle = make(ConnectionError(), ConnectionError(), InferenceResults(["answer"]))
    assert await ask(router) == ["answer"]
    assert handle.calls == 3


async def test_tokenizer_input_is_limited_to_a_million(make: Make) -> None:
    router, handle = make(["a token"], ["a text"], [7])
    await asyncio.wait_for(router.check_health(), 1)
    half = MAX_TEXT // 2
    assert await router.tokenize("m", ["a" * half] * 2) == ["a token"]
    assert await router.decode("m", [[1] * half] * 2) == ["a text"]
    assert await router.count_tokens("m", ["a" * half] * 3) == [7]
    with pytest.raises(TooLarge, match="1,000,001 characters"):
        await router.tokenize("m", ["a" * half, "a" * half, "a"])
    with pytest.raises(TooLarge, match="1,000,001 token ids"):
        await router.decode("m", [[1] * half, [1] * half, [1]])
    assert handle.calls == 3


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (DeploymentUnavailableError(None), ModelNotReady),
        (RayServeException("gone"), ModelNotReady),
        (ConnectionError("gone"), ModelNotReady),
        (InvalidInput("bad"), InvalidInput),
    ],
)
async def test_rays_errors_become_inference_errors(
    make: Make, raised: Exception, expected: type[InferenceError]
) -> None:
    router, _ = make(*[raised] * MAX_ATTEMPTS)
    with pytest.raises(expected):
        await ask(router)


async def test_call_times_out(make: Make) -> None:
    router, _ = make(timeout_s=0.05)
    with pytest.raises(TimedOut):
        await ask(router)


async def test_call_in_flight_ends_early_when_its_model_is_removed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_client, "REMOVED_MODEL_GRACE_S", 0.05)
    router, _ = make()
    call = asyncio.create_task(ask(router))
    await asyncio.sleep(0.05)
    router._apply_snapshot(Snapshot("2", True, {}))
    with pytest.raises(ModelNotFound):
        await asyncio.wait_for(call, 1)


async def test_unknown_model_before_the_first_snapshot_is_not_404(make: Make) -> None:
    router, _ = make()
    with pytest.raises(ModelNotReady, match="just started"):
        router.task("m")
    await asyncio.wait_for(router.check_health(), 1)
    assert router.task("m") is SENTIMENT


async def test_snapshot_of_a_starting_catalog_is_ignored(make: Make) -> None:
    router, _ = make(snapshots=[Snapshot("1", True, {"m": READY}), Snapshot()])
    fresh, _ = make(snapshots=[Snapshot()])
    await asyncio.sleep(0.05)
    assert router._catalog.answers == []
    assert router.task("m") is SENTIMENT
    with pytest.raises(ModelNotReady, match="just started"):
        fresh.task("m")


async def test_timeout_while_loading_is_model_not_ready(make: Make) -> None:
    router, _ = make(card=Card(id="m", state="loading", task="sentiment"), timeout_s=0.05)
    with pytest.raises(ModelNotReady, match="is loading"):
        await ask(router)


async def test_unavailable_model_reports_its_reason(make: Make) -> None:
    router, _ = make(card=Card(id="m", state="unavailable", reason="a typo"))
    await asyncio.sleep(0.01)
    with pytest.raises(ModelNotReady, match="a typo"):
        router.task("m")
    with pytest.raises(ModelNotFound, match="'other'"):
        router.task("other")


@pytest.mark.parametrize(
    ("input", "params", "error", "says"),
    [
        ({"text": ""}, {}, InvalidInput, "empty"),
        ({"text": 3}, {}, InvalidInput, "`text`"),
        ({"txt": "a"}, {}, InvalidInput, "`txt`"),
        ({"text": "a"}, {"topk": 1}, InvalidInput, "`topk`"),
        ({"text": "a" * 1_000_001}, {}, TooLarge, "1,000,001"),
    ],
)
async def test_invalid_input_names_the_field(
    make: Make, input: Any, params: Any, error: type[InferenceError], says: str
) -> None:
    router, _ = make()
    with pytest.raises(error, match=says):
        await router.validator.validate(SENTIMENT, "huggingface", [input], params)


async def test_validate_each_returns_errors_in_place(make: Make) -> None:
    router, _ = make()
    inputs = [{"text": "a"}, {"text": ""}, {"text": 3}, {"text": "b"}]
    (first, *wrong, last), _ = await router.validator.validate_each(SENTIMENT, "huggingface", inputs, {})
    assert (first.text, last.text) == ("a", "b")
    assert [str(error) for error in wrong] == ["the text is empty", "`text`: Input should be a valid string"]
    with pytest.raises(InvalidInput, match="empty"):
        await router.validator.validate(SENTIMENT, "huggingface", inputs, {})
    with pytest.raises(InvalidInput, match="`topk`"):
        await router.validator.validate_each(SENTIMENT, "huggingface", inputs, {"topk": 1})


async def test_dialect_defaults_apply(make: Make) -> None:
    router, _ = make()
    _, params = await router.validator.validate(SENTIMENT, "caikit", [{"text": "a"}], {})
    assert params.model_dump()["sort"] is False
    _, params = await router.validator.validate(SENTIMENT, "caikit", [{"text": "a"}], {"sort": True})
    assert params.model_dump()["sort"] is True


async def test_load_and_unload_through_the_catalog(make: Make) -> None:
    router, _ = make()
    await asyncio.sleep(0.01)
    router._catalog.answers = [None, Forbidden("not here")]
    unloading = asyncio.create_task(router.unload("m"))
    await asyncio.sleep(0.01)
    assert not unloading.done()
    router._apply_snapshot(Snapshot("2", True, {"m": READY.model_copy(update={"state": "unavailable"})}))
    await asyncio.wait_for(unloading, 1)
    with pytest.raises(Forbidden):
        await router.load("m")
    with pytest.raises(ModelNotFound):
        await router.load("other")


async def test_default_model_is_optional(make: Make) -> None:
    router, _ = make()
    with pytest.raises(ModelNotFound, match="default_model"):
        _ = router.default_model


async def test_changed_module_is_served_as_soon_as_its_replica_runs(make: Any) -> None:
    """Before the Catalog's next snapshot: Serve stops the old replica at once."""
    old = READY.model_copy(update={"module_id": "old"})
    new = READY.model_copy(update={"module_id": "new", "task": "embeddings"})
    snapshot = Snapshot("1", True, {"m": old}, {"m": new})
    router, model = make(InferenceResults([1]), snapshots=[snapshot])
    await ask(router)
    model.running_modules = {"old"}
    assert router.card("m") == old
    model.running_modules = {"old", "new"}
    assert router.card("m") == new
    assert router.task("m").name == "embeddings"
