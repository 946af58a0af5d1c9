"""A field that Roster does not read is refused by name, over HTTP and gRPC, unless it has no effect."""

import copy
from typing import Any

import grpc
import pytest

from deployments.dialects.open_inference import dialect
from deployments.wire.open_inference.parameters import GENERATE_NEUTRAL, IGNORED_PARAMETERS
from deployments.wire.open_inference.protos import SERVICE
from tests.grpc_server import call
from tests.wire.open_inference.triton_stubs import load_stubs

CLIENT, _ = load_stubs()
INFER, GENERATE = "/v2/models/sentiment/infer", "/v2/models/text-generation/generate"
LOAD, UNLOAD = "/v2/repository/models/sentiment/load", "/v2/repository/models/sentiment/unload"
BODIES: dict[str, dict[str, Any]] = {
    INFER: {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"], "parameters": {}}],
        "outputs": [{"name": "output", "parameters": {}}],
        "parameters": {},
    },
    GENERATE: {"text_input": "Once", "parameters": {}},
    "/v2/repository/index": {},
    LOAD: {"parameters": {}},
    UNLOAD: {"parameters": {}},
}


def with_field(path: str, keys: tuple[Any, ...], name: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODIES[path])
    inner: Any = body
    for key in keys:
        inner = inner[key]
    inner[name] = value
    return body


@pytest.mark.parametrize(
    ("path", "keys", "name"),
    [
        *((path, (), "colour") for path in BODIES),
        *((path, ("parameters",), "colour") for path in (INFER, GENERATE, LOAD, UNLOAD)),
        *((INFER, ("parameters",), name) for name in ("stream", "triton_colour", "sequence_colour")),
        *((INFER, ("inputs", 0), name) for name in ("colour", "raw")),
        (INFER, ("inputs", 0, "parameters"), "colour"),
        (INFER, ("inputs", 0, "parameters"), "shared_memory_region"),
        (INFER, ("outputs", 0), "datatype"),
        (INFER, ("outputs", 0, "parameters"), "colour"),
        (INFER, ("outputs", 0, "parameters"), "shared_memory_region"),
        (INFER, ("outputs", 0, "parameters"), "content_type"),
        (GENERATE, ("parameters",), "sampling_parameters"),
    ],
)
async def test_field_that_changes_the_answer_is_refused_by_name(
    http, router, path: str, keys: tuple[Any, ...], name: str
) -> None:
    router.allow_model_control = True
    response = await http.post(path, json=with_field(path, keys, name, "red"))
    assert response.status_code == 400 and name in response.json()["error"], response.text
    assert not router.received and router.cards["sentiment"].state == "ready"


@pytest.mark.parametrize(
    ("path", "keys", "name", "value"),
    [
        (INFER, (), "id", "1"),
        (INFER, (), "model_name", "sentiment"),
        (INFER, (), "colour", None),
        *((INFER, ("parameters",), name, 1) for name in sorted(IGNORED_PARAMETERS)),
        *((GENERATE, ("parameters",), name, 1) for name in sorted(IGNORED_PARAMETERS)),
        *((GENERATE, (), name, value) for name, value in GENERATE_NEUTRAL.items()),
        (INFER, ("parameters",), "content_type", None),
        (INFER, ("inputs", 0, "parameters"), "headers", {"a": "b"}),
        (INFER, ("inputs", 0, "parameters"), "content_type", None),
        (INFER, ("outputs", 0, "parameters"), "content_type", "hg_jsonlist"),
        (INFER, ("outputs", 0, "parameters"), "headers", {"a": "b"}),
        (GENERATE, (), "stream", True),
        (GENERATE, (), "id", "1"),
        (UNLOAD, ("parameters",), "unload_dependents", True),
    ],
)
async def test_field_without_effect_is_accepted(
    http, router, path: str, keys: tuple[Any, ...], name: str, value: Any
) -> None:
    router.allow_model_control = True
    response = await http.post(path, json=with_field(path, keys, name, value))
    assert response.status_code == 200, response.text


async def test_flag_of_the_protocol_must_be_true_or_false(http) -> None:
    body = with_field(INFER, ("parameters",), "binary_data_output", "false")
    assert "`parameters.binary_data_output`" in (await http.post(INFER, json=body)).json()["error"]


def test_fields_without_effect_are_documented() -> None:
    assert {"model_name", "parameters.priority", "generate.stream"} <= {*dialect.ignored_fields}


def text_parameter(value: str) -> Any:
    return CLIENT.service_pb2.InferParameter(string_param=value)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parameters": {"colour": text_parameter("red")}}, "`colour`"),
        ({"inputs": {"colour": text_parameter("red")}}, "`inputs[0].parameters.colour`"),
        ({"outputs": {"colour": text_parameter("red")}}, "`outputs[0].parameters.colour`"),
        ({"outputs": {"shared_memory_region": text_parameter("x")}}, "`outputs[0].parameters.shared"),
    ],
)
async def test_parameter_of_an_rpc_is_refused_by_name(
    grpc_address, router, fields: dict[str, Any], field: str
) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
    request = CLIENT.service_pb2.ModelInferRequest(
        model_name="sentiment",
        inputs=[{**text, "parameters": fields.get("inputs", {})}],
        outputs=[{"name": "output", "parameters": fields.get("outputs", {})}],
        parameters=fields.get("parameters", {}),
    )
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(channel, f"/{SERVICE}/ModelInfer", request.SerializeToString())
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in failed.value.details() and not router.received


async def test_repository_of_an_rpc_is_refused(grpc_address) -> None:
    request = CLIENT.service_pb2.RepositoryIndexRequest(repository_name="other")
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="repository_name"):
            await call(channel, f"/{SERVICE}/RepositoryIndex", request.SerializeToString())
