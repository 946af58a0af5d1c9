"""From what a dialect has read off the wire to a task's own schemas."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from deployments.errors import InferenceError, InvalidInput
from deployments.routing.image_fetcher import Fetcher
from deployments.schema import Schema
from deployments.task import Task


class Reader:
    """The part of a Router that validates requests; `fetcher` gets the pictures that are given by URL."""

    fetcher: Fetcher

    async def read(
        self,
        task: Task,
        dialect: str,
        inputs: list[Any],
        params: Mapping[str, Any],
        names: Mapping[str, str] = {},
    ) -> tuple[list[Schema], Schema]:
        """Validate one request: JSON-like inputs and parameters become the task's own schemas.

        A parameter not given takes the dialect's default (`Task.dialect_params`), then the task's. URLs of
        pictures are fetched from the hosts that the operator allowed. Raises `InvalidInput` that names the
        field, `TooLarge`, `Forbidden`. `names` holds the caller's name of each field that has another one.
        """
        each, chosen = await self.read_each(task, dialect, inputs, params, names)
        for one in each:
            if isinstance(one, InferenceError):
                raise one
        return each, chosen

    async def read_each(
        self,
        task: Task,
        dialect: str,
        inputs: list[Any],
        params: Mapping[str, Any],
        names: Mapping[str, str] = {},
    ) -> tuple[list[Any], Schema]:
        """As `read`, with what is wrong with an input in its place.

        Raises what is wrong with the parameters, or `TooLarge` for too many URLs; then nothing is fetched.
        """
        chosen = _valid(task.params, {**task.dialect_params.get(dialect, {}), **params}, names)
        inputs = await self.fetcher.fill(task.input, inputs)
        return [_outcome(task.input, input, names) for input in inputs], chosen


def _valid(schema: type[Schema], value: Any, names: Mapping[str, str]) -> Schema:
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        wrong = [(_field(error["loc"], names), error["msg"]) for error in invalid.errors(include_url=False)]
        sentence = "; ".join(f"`{field}`: {problem}" if field else problem for field, problem in wrong)
        raise InvalidInput(sentence, field=wrong[0][0] or None) from None


def _outcome(schema: type[Schema], value: Any, names: Mapping[str, str]) -> Schema | InferenceError:
    try:
        return value if isinstance(value, InferenceError) else _valid(schema, value, names)
    except InferenceError as error:
        return error


def _field(place: Sequence[int | str], names: Mapping[str, str]) -> str:
    """The path of a field, by the caller's name of what it begins with."""
    head, *rest = map(str, place or [""])
    return ".".join([names.get(head, head), *rest])
