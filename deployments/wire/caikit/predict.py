"""A task's Caikit endpoint: its rpc and its HTTP route, from Caikit's arguments to Caikit's result."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

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
from deployments.wire.caikit import types as wire
from deployments.wire.caikit.errors import Unprocessable
from deployments.wire.forms import parse_form
from deployments.wire.http import UnsupportedMedia, check_json, read_body

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "caikit"
REQUEST_PACKAGE, RESPONSE_PACKAGE = "caikit.runtime.Runtime", "caikit_data_model"
MAX_ECHOED_BODY = 4096  # bytes; an error's `additional_info` does not repeat inputs of a longer body

RpcHandler = Callable[["Router", dict[str, Any], Mapping[str, str]], Awaitable[BaseModel]]


@dataclass(frozen=True)
class TypedRpc:
    """One rpc with its message classes and the function that handles it."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    handler: RpcHandler

    def raw(self) -> Rpc:
        """Return the rpc with raw bytes as its request and response."""

        async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
            response = await self.handler(router, protobuf.parse_fields(self.request, raw), metadata)
            return protobuf.serialize(self.response, response)

        return Rpc(self.service, self.name, call)


class TaskEndpoint:
    """A task in Caikit's form.

    `arguments` maps Caikit's arguments to the task's fields; `request` and `response` are the schemas of the
    rpc; `to_response` converts a task's output to the response.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.arguments = wire.arguments(task.input)
        self.request = wire.request_schema(f"{task.title}TaskRequest", task.input)
        self.response, self.to_response = wire.response_schema(task.output)

    @cached_property
    def body(self) -> type[BaseModel]:
        """The schema of an HTTP request: `inputs` is a single argument itself, or an object of several.

        A missing field is None: Caikit checks missing arguments after types, and with other messages.
        """
        types: list[Any] = [
            Annotated[field.annotation, field] for field in self.request.model_fields.values()
        ]
        absent = Field(default_factory=lambda: None)
        fields: dict[str, Any] = {
            "inputs": (types[0] if len(types) == 1 else self.request, absent),
            "model_id": (Annotated[str, Field(json_schema_extra={"minLength": 1})], absent),
            "parameters": (self.task.params | None, None),
        }
        config = ConfigDict(extra="forbid", json_schema_extra={"required": ["inputs", "model_id"]})
        return create_model(f"{self.task.title}TaskBody", __config__=config, **fields)

    def example(self) -> dict[str, Any]:
        """Return the arguments of an example request."""
        example = self.task.examples()[0]
        values = {argument: example[field] for argument, field in self.arguments.items()}
        for argument, field in self.arguments.items():
            if field_types(self.task.input)[field] == "conversation":  # Caikit sends the last turn's text
                values[argument] = example[field][-1]["content"]
        return values

    def typed_rpc(self, pool: DescriptorPool | None) -> TypedRpc:
        """Return the task's rpc; `pool` describes its messages."""

        async def handle(router: "Router", values: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
            return await self.perform_task(router, metadata.get("mm-model-id", ""), values, {})

        return TypedRpc(
            f"{REQUEST_PACKAGE}.RuntimeService",
            f"{self.task.title}TaskPredict",
            protobuf.message_class(self.request, REQUEST_PACKAGE, pool),
            protobuf.message_class(self.response, RESPONSE_PACKAGE, pool),
            handle,
        )

    def operation(self) -> Operation:
        """Return the task's HTTP route."""
        path = f"/api/v1/task/{self.task.name}"
        return Operation("POST", path, self.post, self.task.summary, self.body, self.response)

    async def post(self, router: "Router", request: Request) -> Response:
        """Handle an HTTP request."""
        body = (await _parse_body(request, self.body)).model_dump(mode="json", exclude_unset=True)
        if "model_id" not in body:
            raise InvalidInput("Please provide model_id in payload", field="model_id")
        inputs = body.get("inputs")
        values = dict.fromkeys(self.arguments, inputs) if len(self.arguments) == 1 else inputs or {}
        response = await self.perform_task(router, body["model_id"], values, body.get("parameters") or {})
        return Response(response.model_dump_json(), media_type="application/json")

    async def perform_task(
        self, router: "Router", model_id: str, values: Mapping[str, Any], params: Mapping[str, Any]
    ) -> BaseModel:
        """Perform the task with the `values` of Caikit's arguments, and return Caikit's response."""
        if not model_id:
            raise InvalidInput("Missing required model ID")
        try:
            self._check_task(router, model_id)
            fields = self._task_input(values)
            inputs, validated = await router.validator.validate(self.task, NAME, [fields], params)
            (output,) = await router.infer(model_id, inputs, validated)
        except ModelNotFound:
            raise ModelNotFound(f"Model '{model_id}' not loaded") from None
        if isinstance(output, InferenceError):
            raise output
        return self.to_response(output)

    def _check_task(self, router: "Router", model_id: str) -> None:
        task = router.task(model_id)
        if task.name != self.task.name:
            raise TaskMismatch(f"Model '{model_id}' performs {task.name}, not {self.task.name}")

    def _task_input(self, values: Mapping[str, Any]) -> dict[str, Any]:
        for name in self.arguments:
            if values.get(name) in (None, "", b"", []):
                raise InvalidInput(
                    f"{self.task.title}.run() missing 1 required positional argument: '{name}'",
                    field=name,
                )
        return {field: values[name] for name, field in self.arguments.items()}


async def _parse_body(request: Request, schema: type[BaseModel]) -> BaseModel:
    """Parse the body, JSON or a form, as `schema`."""
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
    except ValidationError as invalid:
        errors = invalid.errors(include_input=len(body) <= MAX_ECHOED_BODY)
        raise Unprocessable([_without_bytes(error) for error in errors]) from None


def _without_bytes(error: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the bytes of pydantic's error: for invalid JSON, its `input` is the raw body."""
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in error.items()
    }
