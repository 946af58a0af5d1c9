"""A task as Caikit calls it: its rpc and its route, and the way from its arguments to a model's answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import Response

from deployments.dialect import Operation, Rpc
from deployments.errors import InferenceError, InvalidInput, ModelNotFound, TaskMismatch
from deployments.schema import field_types
from deployments.task import Task
from deployments.wire import protobuf
from deployments.wire.caikit import types as caikit_data_model
from deployments.wire.caikit.errors import Unprocessable
from deployments.wire.forms import parse_form
from deployments.wire.http import UnsupportedMedia, check_json, read_body

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "caikit"
REQUESTS, ANSWERED = "caikit.runtime.Runtime", "caikit_data_model"
MAX_QUOTED = 4096  # a longer body is not sent back in an error's `additional_info`

Handle = Callable[["Router", dict[str, Any], Mapping[str, str]], Awaitable[BaseModel]]


@dataclass(frozen=True)
class Method:
    """One rpc before it is raw bytes: what it asks and answers, and who answers it."""

    service: str
    name: str
    request: type[Message]
    answer: type[Message]
    handle: Handle

    def rpc(self) -> Rpc:
        async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
            answered = await self.handle(router, protobuf.parse_fields(self.request, raw), metadata)
            return protobuf.serialize(self.answer, answered)

        return Rpc(self.service, self.name, call)


class Predict:
    """A task as Caikit calls it: its arguments, its answer, its rpc and its route."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.arguments = caikit_data_model.arguments(task.input)
        self.request = caikit_data_model.request(f"{task.title}TaskRequest", task.input)
        self.answer, self.translate = caikit_data_model.answer(task.output)

    @cached_property
    def body(self) -> type[BaseModel]:
        """The schema of an HTTP request: a lone argument is `inputs` itself, several are an object's fields.

        What is missing reads as None: Caikit refuses it in other words, and only after what has a wrong type.
        """
        types: list[Any] = [field.annotation for field in self.request.model_fields.values()]
        absent = Field(default_factory=lambda: None)
        fields: dict[str, Any] = {
            "inputs": (types[0] if len(types) == 1 else self.request, absent),
            "model_id": (str, absent),
            "parameters": (self.task.params | None, None),
        }
        config = ConfigDict(extra="forbid", json_schema_extra={"required": ["inputs", "model_id"]})
        return create_model(f"{self.task.title}TaskBody", __config__=config, **fields)

    def example(self) -> dict[str, Any]:
        """Return the arguments of a request that the task can answer."""
        example = self.task.examples()[0]
        given = {argument: example[field] for argument, field in self.arguments.items()}
        for argument, field in self.arguments.items():
            if field_types(self.task.input)[field] == "conversation":  # here one turn, as a text
                given[argument] = example[field][-1]["content"]
        return given

    def method(self, pool: DescriptorPool | None) -> Method:
        async def handle(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
            return await self.perform(router, metadata.get("mm-model-id", ""), given, {})

        return Method(
            f"{REQUESTS}.RuntimeService",
            f"{self.task.title}TaskPredict",
            protobuf.message_class(self.request, REQUESTS, pool),
            protobuf.message_class(self.answer, ANSWERED, pool),
            handle,
        )

    def operation(self) -> Operation:
        path = f"/api/v1/task/{self.task.name}"
        return Operation("POST", path, self.post, self.task.summary, self.body, self.answer)

    async def post(self, router: "Router", request: Request) -> Response:
        asked = (await _read(request, self.body)).model_dump(mode="json", exclude_unset=True)
        if "model_id" not in asked:
            raise InvalidInput("Please provide model_id in payload", field="model_id")
        inputs = asked.get("inputs")
        given = dict.fromkeys(self.arguments, inputs) if len(self.arguments) == 1 else inputs or {}
        answered = await self.perform(router, asked["model_id"], given, asked.get("parameters") or {})
        return Response(answered.model_dump_json(), media_type="application/json")

    async def perform(
        self, router: "Router", model_id: str, given: Mapping[str, Any], params: Mapping[str, Any]
    ) -> BaseModel:
        """Caikit's answer to Caikit's arguments."""
        if not model_id:
            raise InvalidInput("Missing required model ID")
        try:
            self._check(router, model_id)
            inputs, chosen = await router.validator.validate(self.task, NAME, [self._input(given)], params)
            (output,) = await router.infer(model_id, inputs, chosen)
        except ModelNotFound:
            raise ModelNotFound(f"Model '{model_id}' not loaded") from None
        if isinstance(output, InferenceError):
            raise output
        return self.translate(output)

    def _check(self, router: "Router", model_id: str) -> None:
        live = router.task(model_id)
        if live.name != self.task.name:
            raise TaskMismatch(f"Model '{model_id}' performs {live.name}, not {self.task.name}")

    def _input(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in self.arguments:
            if given.get(name) in (None, "", b"", []):
                raise InvalidInput(
                    f"{self.task.title}.run() missing 1 required positional argument: '{name}'",
                    field=name,
                )
        return {field: given[name] for name, field in self.arguments.items()}


async def _read(request: Request, schema: type[BaseModel]) -> BaseModel:
    """The body, JSON or a form, as `schema`."""
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    body = await read_body(request)
    if media_type == "multipart/form-data":
        body = orjson.dumps(await parse_form(request, body, schema))
    elif media_type != "application/json":
        raise UnsupportedMedia(f"Unsupported media type: {content_type}")
    else:
        check_json(body)
    try:
        return schema.model_validate_json(body)
    except ValidationError as wrong:
        errors = wrong.errors(include_input=len(body) <= MAX_QUOTED)
        raise Unprocessable([_quotable(error) for error in errors]) from None


def _quotable(error: Mapping[str, Any]) -> dict[str, Any]:
    """What is no JSON is quoted as bytes, and may be no text either."""
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in error.items()
    }
