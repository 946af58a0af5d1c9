"""Caikit over gRPC, through Serve's own server: reflection, the nine tasks, errors, the info service."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from deployments.errors import InvalidInput, ModelNotReady, Overloaded, TimedOut
from deployments.task import TASKS
from tests.fake_router import FakeRouter
from tests.grpc_server import call
from tests.wire.caikit.expected_responses import INPUTS, OUTPUTS, RESPONSES, model_info, set_error

NINE = sorted(OUTPUTS)
TEXT = "I loved it."


class Client:
    """A client that gets every message from the server's reflection, like the client of Caikit's demo."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.sync = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.sync)
        self.pool = DescriptorPool(self.database)

    async def close(self) -> None:
        self.sync.close()
        await self.channel.close()

    def services(self) -> list[str]:
        return list(self.database.get_services())

    async def predict(
        self, task: str, model: str | None = None, *, raw: bytes | None = None, **arguments: Any
    ) -> Any:
        title = "".join(word.capitalize() for word in task.split("-"))
        metadata = [] if model is None else [("mm-model-id", model)]
        return await self.unary(
            "caikit.runtime.Runtime.RuntimeService", f"{title}TaskPredict", metadata, raw, arguments
        )

    async def unary(self, service: str, name: str, metadata: Any, raw: bytes | None, arguments: Any) -> Any:
        method = await asyncio.to_thread(lambda: self.pool.FindServiceByName(service).methods_by_name[name])
        if raw is None:
            raw = GetMessageClass(method.input_type)(**arguments).SerializeToString()
        response = GetMessageClass(method.output_type)
        return response.FromString(await call(self.channel, f"/{service}/{name}", raw, *metadata))


@pytest.fixture
async def client(grpc_address: str) -> AsyncIterator[Client]:
    client = Client(grpc_address)
    yield client
    await client.close()


def arguments_of(task: str) -> dict[str, Any]:
    """Return the arguments that the reference's client sends."""
    value = INPUTS.get(task, TEXT)
    if isinstance(value, list):
        return {"sentences": value}
    return {"encoded_bytes_or_url" if task in INPUTS else "text_in": value}


def without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [without_null(item) for item in value]
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize("task", NINE)
async def test_task_returns_message_of_reference(client: Client, task: str) -> None:
    response = await client.predict(task, task, **arguments_of(task))
    assert response == type(response)(**without_null(RESPONSES[task]))


async def test_first_service_is_in_package_that_demo_client_expects(client: Client) -> None:
    services = await asyncio.to_thread(client.services)
    caikit = [name for name in services if name.startswith("caikit.runtime.")]
    assert caikit == ["caikit.runtime.Runtime.RuntimeService", "caikit.runtime.info.InfoService"]
    assert "grpc.health.v1.Health" in services


@pytest.mark.parametrize("task", NINE)
async def test_reflection_resolves_message_names(client: Client, task: str) -> None:
    name = f"caikit.runtime.Runtime.{TASKS[task].title}TaskRequest"
    message = await asyncio.to_thread(client.pool.FindMessageTypeByName, name)
    assert [field.name for field in message.fields] == list(arguments_of(task))


async def test_reflection_of_unknown_symbol_fails(client: Client) -> None:
    with pytest.raises(KeyError):
        await asyncio.to_thread(client.pool.FindMessageTypeByName, "caikit.runtime.Runtime.NoTaskRequest")


async def test_default_parameters_of_dialect_apply(client: Client, router: FakeRouter) -> None:
    await client.predict("sentiment", "sentiment", text_in=TEXT)
    ((model_id, (item,), params),) = router.received
    assert (model_id, item.text, params.sort) == ("sentiment", TEXT, False)


async def test_text_of_conversation_is_one_user_message(client: Client, router: FakeRouter) -> None:
    await client.predict("conversational", "conversational", text_in=TEXT)
    ((_, (item,), _),) = router.received
    assert [(message.role, message.content) for message in item.messages] == [("user", TEXT)]


async def test_last_of_two_model_ids_applies(client: Client) -> None:
    metadata = [("mm-model-id", "nope"), ("mm-model-id", "sentiment"), ("mm-vmodel-id", "nope")]
    request = {"text_in": TEXT}
    assert await client.unary(
        "caikit.runtime.Runtime.RuntimeService", "SentimentTaskPredict", metadata, None, request
    )


async def test_unknown_fields_are_ignored(client: Client) -> None:
    assert await client.predict("sentiment", "sentiment", raw=b"\x0a\x01a\xba\x06\x01b")


MISSING = "Sentiment.run() missing 1 required positional argument: 'text_in'"


@pytest.mark.parametrize(
    ("task", "model", "arguments", "code", "details"),
    [
        ("sentiment", None, {"text_in": TEXT}, "INVALID_ARGUMENT", "Missing required model ID"),
        ("sentiment", "", {"text_in": TEXT}, "INVALID_ARGUMENT", "Missing required model ID"),
        ("sentiment", "nope", {"text_in": TEXT}, "NOT_FOUND", "Model 'nope' not loaded"),
        ("sentiment", "../etc", {"text_in": TEXT}, "NOT_FOUND", "Model '../etc' not loaded"),
        ("sentiment", "broken", {"text_in": TEXT}, "UNAVAILABLE", "models/broken/config.yml: no"),
        (
            "sentiment",
            "summarization",
            {"text_in": TEXT},
            "INVALID_ARGUMENT",
            "performs summarization, not sentiment",
        ),
        ("sentiment", "sentiment", {}, "INVALID_ARGUMENT", MISSING),
        ("sentiment", "sentiment", {"text_in": ""}, "INVALID_ARGUMENT", MISSING),
        ("sentence-similarity", "sentence-similarity", {}, "INVALID_ARGUMENT", "missing 1 required"),
        (
            "sentence-similarity",
            "sentence-similarity",
            {"sentences": ["a", ""]},
            "INVALID_ARGUMENT",
            "is empty",
        ),
        ("object-detection", "object-detection", {}, "INVALID_ARGUMENT", "argument: 'encoded_bytes_or_url'"),
        (
            "object-detection",
            "object-detection",
            {"encoded_bytes_or_url": "@@@"},
            "INVALID_ARGUMENT",
            "Invalid base64-encoded string: ",
        ),
        (
            "object-detection",
            "object-detection",
            {"encoded_bytes_or_url": "/etc/passwd"},
            "INVALID_ARGUMENT",
            "",
        ),
        (
            "object-detection",
            "object-detection",
            {"encoded_bytes_or_url": "aGVsbG8="},
            "INVALID_ARGUMENT",
            "not an image",
        ),
        ("sentiment", "sentiment", {"raw": b"\xff\xff"}, "INTERNAL", "Exception deserializing request!"),
        (
            "sentiment",
            "sentiment",
            {"raw": b"\x0a\x02\xff\xfe"},
            "INTERNAL",
            "Exception deserializing request!",
        ),
    ],
)
async def test_invalid_request_is_refused(
    client: Client, task: str, model: str | None, arguments: dict[str, Any], code: str, details: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await client.predict(task, model, **arguments)
    assert error.value.code().name == code
    assert details in error.value.details()


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (InvalidInput("the text is too odd"), "INVALID_ARGUMENT", "the text is too odd"),
        (Overloaded("every queue is full"), "RESOURCE_EXHAUSTED", "every queue is full"),
        (ModelNotReady("starting"), "UNAVAILABLE", "starting"),
        (TimedOut("no answer within 60 seconds"), "DEADLINE_EXCEEDED", "no answer within 60 seconds"),
        (RuntimeError("10.0.0.1 Traceback"), "INTERNAL", "internal error, request id the-request-id"),
    ],
)
async def test_error_kind_becomes_grpc_code(
    client: Client, router: FakeRouter, error: Exception, code: str, details: str
) -> None:
    set_error(router, "sentiment", error)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.predict("sentiment", "sentiment", text_in=TEXT)
    assert (raised.value.code().name, raised.value.details()) == (code, details)


async def call_info(client: Client, name: str, **arguments: Any) -> Any:
    return await client.unary("caikit.runtime.info.InfoService", name, [], None, arguments)


async def test_models_info_of_loaded_model(client: Client, router: FakeRouter) -> None:
    router.cards["embeddings"] = router.cards["embeddings"].model_copy(update={"folder": "models/x"})
    (model,) = (await call_info(client, "GetModelsInfo", model_ids=["embeddings"])).models
    facts = json_format.MessageToDict(model, preserving_proto_field_name=True)
    assert {**facts, "size": int(facts["size"])} == model_info(router, "embeddings")


async def test_models_info_without_ids_lists_every_model(client: Client, router: FakeRouter) -> None:
    models = (await call_info(client, "GetModelsInfo")).models
    assert {model.name: model.loaded for model in models} == {
        name: card.state == "ready" for name, card in router.cards.items()
    }


async def test_models_info_of_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call_info(client, "GetModelsInfo", model_ids=["sentiment", "nope"])
    assert (error.value.code().name, error.value.details()) == ("NOT_FOUND", "Model nope is not loaded")


async def test_runtime_info_has_package_versions(client: Client) -> None:
    runtime = await call_info(client, "GetRuntimeInfo")
    assert runtime.runtime_version == ""
    assert runtime.python_packages["ray"]
