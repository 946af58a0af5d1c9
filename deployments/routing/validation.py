"""Validation of requests: what a dialect has read off the wire becomes a task's own schemas."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from deployments.errors import InferenceError, InvalidInput
from deployments.routing.image_fetcher import Fetcher
from deployments.schema import Schema
from deployments.task import Task


class RequestValidator:
    """Validates inputs and parameters; `fetcher` gets the images that a request gives by URL."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def read(
        self, task: Task, dialect: str, inputs: list[Any], params: Mapping[str, Any]
    ) -> tuple[list[Schema], Schema]:
        """Validate one request: JSON-like inputs and parameters become the task's own schemas.

        A parameter that is not given takes the dialect's default (`Task.dialect_params`), then the task's.
        Images are fetched by URL from the hosts that the operator allowed. Raises `InvalidInput` that names
        the field, `TooLarge`, `Forbidden`.
        """
        each, validated = await self.read_each(task, dialect, inputs, params)
        for input in each:
            if isinstance(input, InferenceError):
                raise input
        return each, validated

    async def read_each(
        self, task: Task, dialect: str, inputs: list[Any], params: Mapping[str, Any]
    ) -> tuple[list[Any], Schema]:
        """Validate as `read`, but return an input's error in the input's place.

        Raises what is wrong with the parameters, or `TooLarge` for too many URLs; then it fetches nothing.
        """
        validated = _validate(task.params, {**task.dialect_params.get(dialect, {}), **params})
        inputs = await self._fetcher.resolve_image_urls(task.input, inputs)
        return [_input_or_error(task.input, input) for input in inputs], validated


def _validate(schema: type[Schema], value: Any) -> Schema:
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        raise InvalidInput("; ".join(map(_sentence, invalid.errors(include_url=False)))) from None


def _input_or_error(schema: type[Schema], value: Any) -> Schema | InferenceError:
    try:
        return value if isinstance(value, InferenceError) else _validate(schema, value)
    except InferenceError as error:
        return error


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"`{where}`: {error['msg']}" if where else str(error["msg"])
