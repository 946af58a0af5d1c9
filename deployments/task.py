"""Tasks and modules: a task is a typed signature, a module is a class that performs it with a model.

`@task` registers both. Validation, the routes and rpcs of every dialect, the OpenAPI schema, the protobuf
messages, the UI's form, the documentation, the warm-up request and the generic tests derive from the class.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from deployments.schema import Schema

if TYPE_CHECKING:
    from deployments.engines.checkpoint import Checkpoint
    from deployments.limits import Batching

TASKS: dict[str, "Task"] = {}
MODULES: dict[str, type["Module"]] = {}


@dataclass(frozen=True)
class Task:
    """The signature of a task.

    `name` is the task's name in routes and rpcs ("image-classification"), `pipeline_tag` the Hub's name for
    it. `input` is one item; a batch may hold different items, but only items with equal `params`. `chunk` is
    None unless responses can stream. `single_output_in_list`: the Hub API returns a list even for one input.
    `dialect_params` holds defaults that differ in one dialect, by that dialect's name.
    """

    name: str
    summary: str
    input: type[Schema]
    params: type[Schema]
    output: type[Schema]
    chunk: type[Schema] | None
    pipeline_tag: str
    single_output_in_list: bool = False
    dialect_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name in CamelCase: "ImageClassification"."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use: Roster's and the Hub's."""
        return tuple(dict.fromkeys((self.name, self.pipeline_tag)))

    def examples(self) -> list[dict[str, Any]]:
        """Return example inputs, as JSON values, from the `examples` of the fields."""
        fields = {name: f.examples for name, f in self.input.model_fields.items() if f.examples}
        return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]


class Encoded(NamedTuple):
    """An encoded input for `run`, and its cost in the module's `unit`: tokens or pixels.

    `numbers` is the count of numbers in the output, if it grows with the input; a request has a limit.
    `truncated` is the number of tokens that the input lost, because the network reads fewer.
    """

    input: Any
    cost: int = 1
    numbers: int = 0
    truncated: int = 0


class Module:
    """A loaded model. A subclass implements `load` and `run`; the other hooks are optional.

    `load` imports torch and transformers inside the function and assigns the network to `self.model`. Text
    modules also assign `self.tokenizer` and `self.max_length`, the longest input in tokens.
    `encode` prepares inputs for `run` while an earlier batch is in the network: it tokenizes or decodes
    images and returns one `Encoded` per input, with its cost in `unit`s.
    `run` takes a list of inputs (encoded, if there is an `encode`) and returns one output per input, in
    order. If either raises, the batcher retries in smaller batches, so that a bad input fails alone.
    An `async` `run` schedules its own batches: it is called at any time, with one input per call.
    `stream` yields the chunks of one response; the replica closes it when the client disconnects.
    `limit` receives the batching limits at the start and when they change; `counters` returns running totals
    of the work.
    """

    task: ClassVar[Task]
    module_id: ClassVar[str]
    default_model: ClassVar[str]
    default_revision: ClassVar[str | None] = None
    unit: ClassVar[Literal["tokens", "pixels", "items"]] = "tokens"
    engines: ClassVar[tuple[str, ...]] = ("torch",)
    """The engines that a config may name for this module."""
    network_kinds: ClassVar[tuple[str, ...]] = ()
    """The kinds of networks that it serves (`engines/architectures.py`); empty where any may fit."""

    model: Any
    tokenizer: Any = None
    max_length: int | None = None
    padding_cost: float = 1.0
    """The cost of a unit of padding relative to a real unit; 0 if the network sees no padding."""

    def load(self, checkpoint: "Checkpoint") -> None:
        raise NotImplementedError

    def encode(self, inputs: list[Any], params: Any) -> list[Encoded]:
        return [Encoded(input) for input in inputs]

    def run(self, inputs: list[Any], params: Any) -> Any:
        raise NotImplementedError

    stream: Callable[[Any, Any], AsyncGenerator[Any, None]] | None = None

    @classmethod
    def batches_itself(cls) -> bool:
        return inspect.iscoroutinefunction(cls.run)

    def counters(self) -> dict[str, int]:
        return {}

    def limit(self, limits: "Batching") -> None:
        pass


M = TypeVar("M", bound=Module)


def task(name: str, **options: Any) -> Callable[[type[M]], type[M]]:
    """Register a module and its task. `options` are the fields of `Task` that no type gives."""

    def register(cls: type[M]) -> type[M]:
        if cls.module_id in MODULES:
            raise ValueError(f"module_id {cls.module_id} is taken by `{MODULES[cls.module_id].__name__}`")
        declared = _declared_task(cls, name, options)
        if TASKS.setdefault(name, declared) != declared:
            raise TypeError(f"`{cls.__name__}` declares task {name!r} differently from an earlier module")
        cls.task = TASKS[name]
        MODULES[cls.module_id] = cls
        return cls

    return register


def _declared_task(cls: type[Module], name: str, options: dict[str, Any]) -> Task:
    hints = get_type_hints(cls.run)
    input_hints = hints if cls.encode is Module.encode else get_type_hints(cls.encode)
    (input_,), params, (output,) = get_args(input_hints["inputs"]), hints["params"], get_args(hints["return"])
    stream_type = get_type_hints(cls.stream)["return"] if cls.stream else None
    if stream_type and get_origin(stream_type) is not AsyncGenerator:
        raise TypeError(f"`{cls.__name__}.stream` must return an AsyncGenerator, not {stream_type}")
    chunk = get_args(stream_type)[0] if stream_type else None
    summary = (cls.__doc__ or "").strip().splitlines()[0]
    return Task(name, summary, input_, params, output, chunk, **{"pipeline_tag": name, **options})
