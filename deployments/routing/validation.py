"""Validation of requests: JSON-like inputs and parameters become the task's own schemas."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from deployments.errors import InferenceError, InvalidInput
from deployments.routing.image_fetcher import ImageFetcher
from deployments.schema import Schema
from deployments.task import Task


class RequestValidator:
    """Validates inputs and parameters; `fetcher` gets the images that a request gives by URL."""

    def __init__(self, fetcher: ImageFetcher) -> None:
        self._fetcher = fetcher

    async def validate(
        self,
        task: Task,
        dialect: str,
        inputs: list[Any],
        params: Mapping[str, Any],
        names: Mapping[str, str] = {},
    ) -> tuple[list[Schema], Schema]:
        """Validate one request: JSON-like inputs and parameters become the task's own schemas.

        A parameter that is not given takes the dialect's default (`Task.dialect_params`), then the task's.
        Images are fetched by URL from the hosts that the operator allowed. `names` maps fields of the task to
        the client's names for them, for errors. Raises `InvalidInput` that names the field, `TooLarge`,
        `Forbidden`.
        """
        each, validated = await self.validate_each(task, dialect, inputs, params, names)
        for input in each:
            if isinstance(input, InferenceError):
                raise input
        return each, validated

    async def validate_each(
        self,
        task: Task,
        dialect: str,
        inputs: list[Any],
        params: Mapping[str, Any],
        names: Mapping[str, str] = {},
    ) -> tuple[list[Any], Schema]:
        """Validate as `validate`, but return an input's error in the input's place.

        Raises what is wrong with the parameters, or `TooLarge` for too many URLs; then it fetches nothing.
        """
        validated = _validate(task.params, {**task.dialect_params.get(dialect, {}), **params}, names)
        inputs = await self._fetcher.resolve_image_urls(task.input, inputs)
        return [_input_or_error(task.input, input, names) for input in inputs], validated


def _validate(schema: type[Schema], value: Any, names: Mapping[str, str]) -> Schema:
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        problems = [
            (_field(error["loc"], names), error["msg"]) for error in invalid.errors(include_url=False)
        ]
        sentence = "; ".join(f"`{field}`: {problem}" if field else problem for field, problem in problems)
        raise InvalidInput(sentence, field=problems[0][0] or None) from None


def _input_or_error(schema: type[Schema], value: Any, names: Mapping[str, str]) -> Schema | InferenceError:
    try:
        return value if isinstance(value, InferenceError) else _validate(schema, value, names)
    except InferenceError as error:
        return error


def _field(location: Sequence[int | str], names: Mapping[str, str]) -> str:
    """Return the dotted path of a field, with the client's name for its first part."""
    head, *rest = map(str, location or [""])
    return ".".join([names.get(head, head), *rest])
