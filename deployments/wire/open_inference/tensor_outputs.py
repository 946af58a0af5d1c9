"""A task's outputs as named tensors: `output` is each item's JSON, as the Hub says it; the others are typed.

| a field of the output    | is a tensor                                            |
|--------------------------|--------------------------------------------------------|
| str, bool, int, float    | BYTES, BOOL, INT64, FP32 [N]                           |
| a list of these          | the same, [N, K]                                       |
| a list of labels         | BYTES [N, K] by its name, and `scores`, FP32 [N, K]    |
| anything else            | BYTES [N, 1] of JSON                                   |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin

import orjson

from deployments.errors import InvalidInput
from deployments.schema import Label, Schema
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.protobuf import bare, without_none
from deployments.wire.task_json import said

OUTPUT = "output"
DATATYPES = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP32"}


@dataclass(frozen=True)
class Wanted:
    """An output that a request asks for by name."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One tensor that can be asked for.

    `sizes` are its sizes beside the rows, -1 for any. `take` gives one row's value: None where an output has
    none. `labels` gives the classes behind it, where it tells of any.
    """

    name: str
    datatype: str
    sizes: tuple[int, ...]
    content_type: str
    take: Callable[[Schema], Any]
    labels: Callable[[Schema], list[Label] | None] | None = None


@lru_cache
def columns(output: type[Schema]) -> dict[str, Column]:
    """Every tensor that can be asked for, by its name."""
    found = {OUTPUT: _json(OUTPUT, said)}
    for name, field in output.model_fields.items():
        for column in _columns(name, without_none(bare(field.annotation))):
            found.setdefault(column.name, column)
    return found


def metadata(output: type[Schema]) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each; -1 is any size."""
    return [(one.name, one.datatype, [-1, *one.sizes]) for one in columns(output).values()]


def check_wanted(output: type[Schema], wanted: Sequence[Wanted]) -> None:
    """Raise `InvalidInput` where `tell` could not tell one of `wanted`."""
    names = [one.name for one in wanted]
    for one in wanted:
        if one.name not in columns(output):
            raise InvalidInput(f"there is no output {one.name!r}; there is {', '.join(columns(output))}")
        if names.count(one.name) > 1:
            raise InvalidInput(f"the output {one.name!r} is asked for twice")
        if any(name.startswith("shared_memory") for name in one.parameters):
            raise InvalidInput("outputs are not written to shared memory")
        _classes(columns(output)[one.name], one)


def tell(output: type[Schema], outputs: Sequence[Schema], wanted: Sequence[Wanted]) -> list[Tensor]:
    """The tensors that are wanted, or `output` alone where none is named.

    Raises `InvalidInput` where rows have no such value, or as many that they make no tensor.
    """
    asked = wanted or [Wanted(OUTPUT, {})]
    return [_tensor(columns(output)[one.name], outputs, one) for one in asked]


def _columns(name: str, kind: Any) -> list[Column]:
    origin, args = get_origin(kind), get_args(kind)
    take = attrgetter(name)
    if kind == list[Label]:
        labels = Column(name, "BYTES", (-1,), "str", _each(take, "label"), take)
        scores = Column("scores", "FP32", (-1,), "np", _each(take, "score"), take)
        return [labels, scores]
    many = origin is list
    scalar = args[0] if many else type(args[0]) if origin is Literal else kind
    if (datatype := DATATYPES.get(scalar)) is None:
        return [_json(name, lambda value: value.model_dump(mode="json", include={name})[name])]
    return [Column(name, datatype, (-1,) if many else (), "str" if scalar is str else "np", take)]


def _json(name: str, take: Callable[[Any], Any]) -> Column:
    return Column(name, "BYTES", (1,), "hg_jsonlist", lambda value: [orjson.dumps(take(value))])


def _each(take: Callable[[Any], Any], attribute: str) -> Callable[[Schema], list[Any] | None]:
    def row(value: Schema) -> list[Any] | None:
        found = take(value)
        return None if found is None else [getattr(one, attribute) for one in found]

    return row


def _tensor(column: Column, outputs: Sequence[Schema], wanted: Wanted) -> Tensor:
    name, classes = column.name, _classes(column, wanted)
    take = column.take if classes is None else partial(_best, column, classes)
    rows: list[Any] = [take(value) for value in outputs]
    if any(row is None for row in rows):
        raise InvalidInput(f"an answer has no {name!r} here; ask for {OUTPUT!r}")
    shape: tuple[int, ...] = (len(rows),)
    if column.sizes:
        widths = sorted({len(row) for row in rows})
        if len(widths) > 1:
            raise InvalidInput(
                f"the rows of {name!r} have {widths[0]} to {widths[-1]} values; ask for {OUTPUT!r}"
            )
        shape, rows = (*shape, *widths), [value for row in rows for value in row]
    if classes is not None:
        return Tensor(name, "BYTES", shape, rows, {"content_type": "str"})
    values = [value.encode() if isinstance(value, str) else value for value in rows]
    return Tensor(name, column.datatype, shape, values, {"content_type": column.content_type})


def _classes(column: Column, wanted: Wanted) -> int | None:
    """How many of the best classes are asked for in place of the tensor itself."""
    count = wanted.parameters.get("classification")
    if count is None:
        return None
    if column.labels is None:
        raise InvalidInput(f"the output {column.name!r} tells of no classes")
    if type(count) is not int or count < 1:
        raise InvalidInput("`classification` is how many classes to tell: 1 or more")
    return count


def _best(column: Column, count: int, output: Schema) -> list[bytes] | None:
    """The best classes as "score:index:label"; the index is the place in the tensor that is else told."""
    assert column.labels is not None
    if (labels := column.labels(output)) is None:
        return None
    best = sorted(enumerate(labels), key=lambda place: -place[1].score)[:count]
    return [f"{one.score:f}:{index}:{one.label}".encode() for index, one in best]
