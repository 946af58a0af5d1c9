"""A router without Ray: one ready model per task, with the task's name and sample outputs."""

import base64
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import httpx

import deployments.tasks  # noqa: F401 - registers the tasks
from deployments.card import Card, Description, Replicas, State
from deployments.errors import Forbidden, InferenceError, InvalidInput, ModelNotFound, ModelNotReady
from deployments.media import EXAMPLE_IMAGE
from deployments.results import InferenceResults, Usage
from deployments.routing.image_fetcher import ImageFetcher
from deployments.routing.validation import RequestValidator
from deployments.schema import TextToken, field_types
from deployments.task import TASKS, Task
from deployments.telemetry.request_stats import ModelStats

IMAGE = base64.b64decode(EXAMPLE_IMAGE)
SAMPLE_VALUES = {str: "word", float: 0.5, int: 7, bool: True, bytes: IMAGE}


class ReceivedRequest(NamedTuple):
    """A request that reached the router, with validated inputs and parameters."""

    model_id: str
    inputs: list[Any]
    params: Any


class FakeRouter:
    """A router with a model per task, a model that loads and a broken one.

    `outputs` and `streams` replace a model's sample outputs: functions of one input that return, raise or
    yield. `received` has the requests, `closed_streams` the models whose streams have ended.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Restore the initial models and outputs, and drop the received requests."""
        self.startup_complete = True
        self.has_ui = False
        self.default_model = "embeddings"
        self.cards = {task.name: _card(task) for task in TASKS.values()}
        self.cards["loading"] = Card(id="loading", state="loading", task="sentiment")
        self.cards["broken"] = Card(id="broken", state="unavailable", reason="models/broken/config.yml: no")
        self.allow_model_control = False
        self.validator = RequestValidator(ImageFetcher([]))
        self.outputs: dict[str, Callable[[Any], Any]] = {}
        self.streams: dict[str, Callable[[Any], AsyncGenerator[Any, None]]] = {}
        self.received: list[ReceivedRequest] = []
        self.closed_streams: list[str] = []

    def card(self, model_id: str) -> Card:
        if model_id not in self.cards:
            raise ModelNotFound(f"no model is named {model_id!r}")
        return self.cards[model_id]

    def task(self, model_id: str) -> Task:
        card = self.card(model_id)
        if card.state != "ready":
            raise ModelNotReady(card.reason or "the model is on its way")
        return TASKS[card.task]

    async def stats(self) -> list[ModelStats]:
        return [ModelStats(id="sentiment", requests_per_second=2.0, p50_ms=3.0, p95_ms=9.0, in_flight=1)]

    async def infer(self, model_id: str, inputs: list[Any], params: Any) -> InferenceResults:
        self.received.append(ReceivedRequest(model_id, inputs, params))
        usage = Usage(
            costs=[7] * len(inputs), queued_s=0.25, encoded_s=0.125, inference_s=0.5, batches=[len(inputs)]
        )
        return InferenceResults((self._output(model_id, input) for input in inputs), usage)

    async def tokenize(self, model_id: str, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Return a token per word, with the word's length as its id, between two special tokens."""
        self._check_tokenizer(model_id)
        special_token = TextToken(id=0, text="[S]", special=True, start=None, stop=None)
        around = [special_token] if special else []
        return [[*around, *_word_tokens(text), *around] for text in texts]

    async def count_tokens(self, model_id: str, texts: list[str]) -> list[int]:
        self._check_tokenizer(model_id)
        return [2 + len([*_word_tokens(text)]) for text in texts]

    async def decode(self, model_id: str, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        self._check_tokenizer(model_id)
        if any(id > 100 for text_ids in ids for id in text_ids):
            raise InvalidInput("this model has no token above 100")
        return [
            " ".join("x" * id if id else "[S]" for id in text_ids if id or not skip_special)
            for text_ids in ids
        ]

    async def counters(self, model_id: str) -> dict[str, int]:
        self.task(model_id)
        return {"generated_tokens": 5}

    async def load(self, model_id: str) -> None:
        self._command(model_id, "ready")

    async def unload(self, model_id: str) -> None:
        self._command(model_id, "unavailable")

    def _command(self, model_id: str, state: State) -> None:
        if not self.allow_model_control:
            raise Forbidden("only the operator may load and unload models")
        self.cards[model_id] = self.card(model_id).model_copy(update={"state": state})

    def _check_tokenizer(self, model_id: str) -> None:
        if "image" in field_types(self.task(model_id).input).values():
            raise InvalidInput("a model of this task has no tokenizer")

    async def stream(self, model_id: str, input: Any, params: Any) -> AsyncGenerator[Any, None]:
        self.received.append(ReceivedRequest(model_id, [input], params))
        chunks = self.streams.get(model_id)
        try:
            if chunks is None:
                yield sample(self.task(model_id).chunk)
                return
            async for chunk in chunks(input):
                yield chunk
        finally:
            self.closed_streams.append(model_id)

    def _output(self, model_id: str, input: Any) -> Any:
        try:
            return self.outputs.get(model_id, lambda _: sample(self.task(model_id).output))(input)
        except InferenceError as error:
            return error


def mock_image_fetcher(respond: Callable[[str], httpx.Response]) -> tuple[ImageFetcher, list[str]]:
    """Return a fetcher for "allowed.example", where `respond` serves each path, and the fetched paths."""
    paths: list[str] = []

    def get(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return respond(request.url.path)

    client = httpx.AsyncClient(transport=httpx.MockTransport(get))
    return ImageFetcher(["allowed.example"], client), paths


def _word_tokens(text: str) -> Iterator[TextToken]:
    for word in re.finditer(r"\S+", text):
        start, stop = word.span()
        yield TextToken(id=stop - start, text=word[0], special=False, start=start, stop=stop)


def sample(type_: Any) -> Any:
    """Return a value of a type; a schema has a value in every field."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, UnionType):
        return sample(next(choice for choice in arguments if choice is not NoneType))
    if origin is list:
        return [sample(arguments[0]), sample(arguments[0])]
    if type_ in SAMPLE_VALUES:
        return SAMPLE_VALUES[type_]
    return type_(**{name: sample(field.annotation) for name, field in type_.model_fields.items()})


def _card(task: Task) -> Card:
    return Card(
        id=task.name,
        state="ready",
        task=task.name,
        module_id="00000000-0000-0000-0000-000000000000",
        model=f"example/{task.name}",
        revision="714eb0f",
        replicas=Replicas(running=1, wanted=1),
        description=Description(
            device="cpu",
            dtype="float32",
            parameters=1000,
            bytes=4000,
            max_length=512,
            max_batch_size=32,
            max_batch_tokens=8192,
        ),
    )
