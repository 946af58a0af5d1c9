"""From what a dialect has read off the wire to a task's own schemas."""

from collections.abc import Mapping
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
        self, task: Task, dialect: str, inputs: list[Any], params: Mapping[str, Any]
    ) -> tuple[list[Schema], Schema]:
        """Validate one request: JSON-like inputs and parameters become the task's own schemas.

        A parameter not given takes the dialect's default (`Task.dialect_params`), then the task's. URLs of
        pictures are fetched from the hosts that the operator allowed. Raises `InvalidInput` that names the
        field, `TooLarge`, `Forbidden`.
        """
        each, chosen = await self.read_each(task, dialect, inputs, params)
        for one in each:
            if isinstance(one, InferenceError):
                raise one
        return each, chosen

    async def read_each(
        self, task: Task, dialect: str, inputs: list[Any], params: Mapping[str, Any]
    ) -> tuple[list[Any], Schema]:
        """As `read`, with what is wrong with an input in its place.

        Raises what is wrong with the parameters, or `TooLarge` for too many URLs; then nothing is fetched.
        """
        chosen = _valid(task.params, {**task.dialect_params.get(dialect, {}), **params})
        inputs = await self.fetcher.fill(task.input, inputs)
        return [_outcome(task.input, input) for input in inputs], chosen


def _valid(schema: type[Schema], value: Any) -> Schema:
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        raise InvalidInput("; ".join(map(_sentence, invalid.errors(include_url=False)))) from None


def _outcome(schema: type[Schema], value: Any) -> Schema | InferenceError:
    try:
        return value if isinstance(value, InferenceError) else _valid(schema, value)
    except InferenceError as error:
        return error


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"`{where}`: {error['msg']}" if where else str(error["msg"])
