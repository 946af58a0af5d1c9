"""A task is what can be asked; a module is a class that performs it; `@task` makes a file speak everywhere.

From one decorated class come the validation, every dialect's route, the OpenAPI schema, the protobuf messages
and rpc, the UI's form, the README's row, the warm-up request and the generic tests.
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
    """What can be asked, and in which words.

    `name` is the task's name in routes and rpcs ("image-classification"), `pipeline_tag` the Hub's name for
    it. `input` is one item; items may differ inside a batch. `params` must be equal to share one. `chunk` is
    None unless answers can stream. `lone_answer_in_list`: the Hub answers even a lone input with a list.
    `dialect_params` holds defaults that differ in one dialect, by that dialect's name.
    """

    name: str
    summary: str
    input: type[Schema]
    params: type[Schema]
    output: type[Schema]
    chunk: type[Schema] | None
    pipeline_tag: str
    lone_answer_in_list: bool = False
    dialect_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name as a class would be called: "ImageClassification"."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a caller may use for it: ours, and the Hub's."""
        return tuple(dict.fromkeys((self.name, self.pipeline_tag)))

    def examples(self) -> list[dict[str, Any]]:
        """Inputs to show and to warm up with, from the fields' own `examples`, as JSON would hold them."""
        fields = {name: f.examples for name, f in self.input.model_fields.items() if f.examples}
        return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]


class Encoded(NamedTuple):
    """What `run` gets in an input's place, and what it costs: tokens, or pixels, by the module's `unit`.

    `numbers` is how many the answer will hold, where it grows with the input: a request's may be too many.
    """

    input: Any
    cost: int = 1
    numbers: int = 0


class Module:
    """One model, loaded. A subclass writes `load` and `run`; the other hooks are for those that need them.

    `load` imports torch and transformers inside itself and leaves the network in `self.model`; text modules
    leave their tokenizer in `self.tokenizer` and the longest input, in tokens, in `self.max_length`.
    `encode` makes inputs ready for `run` while an earlier batch is in the network: it tokenizes, or opens
    pictures, one `Encoded` per input, whose cost is counted in `unit`s.
    `run` takes a list of inputs, encoded where there is an `encode`, and returns one output per input, in
    order. Where either raises, the caller tries the items in smaller batches, so that a bad one fails alone.
    A `run` that is `async` batches by itself: it is called at any time, with one input a call.
    `stream` yields the chunks of one answer; it is closed when the caller has gone.
    Then `limit` gives it its limits, at the start and when they change, and `counters` tells running totals
    of its work.
    """

    task: ClassVar[Task]
    module_id: ClassVar[str]
    default_model: ClassVar[str]
    default_revision: ClassVar[str | None] = None
    unit: ClassVar[Literal["tokens", "pixels", "items"]] = "tokens"
    engines: ClassVar[tuple[str, ...]] = ("torch",)
    """What a config may name to run the network."""

    model: Any
    tokenizer: Any = None
    max_length: int | None = None
    padding_cost: float = 1.0
    """What a unit of padding costs beside a real one; 0 where the network sees none."""

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


def task(name: str, **facts: Any) -> Callable[[type[M]], type[M]]:
    """Register a module, and its task under `name`; `facts` are `Task`'s own fields that no type tells."""

    def register(cls: type[M]) -> type[M]:
        if cls.module_id in MODULES:
            raise ValueError(f"module_id {cls.module_id} is taken by `{MODULES[cls.module_id].__name__}`")
        spoken = _read(cls, name, facts)
        if TASKS.setdefault(name, spoken) != spoken:
            raise TypeError(f"`{cls.__name__}` tells task {name!r} differently from the module before it")
        cls.task = TASKS[name]
        MODULES[cls.module_id] = cls
        return cls

    return register


def _read(cls: type[Module], name: str, facts: dict[str, Any]) -> Task:
    hints = get_type_hints(cls.run)
    asked = hints if cls.encode is Module.encode else get_type_hints(cls.encode)
    (input_,), params, (output,) = get_args(asked["inputs"]), hints["params"], get_args(hints["return"])
    streamed = get_type_hints(cls.stream)["return"] if cls.stream else None
    if streamed and get_origin(streamed) is not AsyncGenerator:
        raise TypeError(f"`{cls.__name__}.stream` is to return an AsyncGenerator, not {streamed}")
    chunk = get_args(streamed)[0] if streamed else None
    summary = (cls.__doc__ or "").strip().splitlines()[0]
    return Task(name, summary, input_, params, output, chunk, **{"pipeline_tag": name, **facts})
