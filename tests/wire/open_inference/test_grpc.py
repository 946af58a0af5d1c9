"""The Open Inference Protocol over gRPC, tested with Triton's own client through Serve's own server."""

import asyncio
import json
from typing import Any

import grpc
import numpy as np
import pytest

from deployments.dialects.open_inference import dialect
from deployments.errors import Overloaded
from deployments.task import TASKS, Task
from deployments.wire.open_inference.protos import SERVICE
from deployments.wire.task_json import to_hub_json
from tests.fake_router import IMAGE, sample
from tests.grpc_server import call
from tests.wire.open_inference.triton_stubs import example_elements, load_stubs

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
CLIENT, _ = load_stubs()
InferenceServerException = CLIENT.InferenceServerException


def tensor(name: str, values: list[bytes]) -> Any:
    input = CLIENT.InferInput(name, [len(values)], "BYTES")
    return input.set_data_from_numpy(np.array(values, dtype=object))


@EVERY_TASK
async def test_infer_returns_a_row_per_item_for_every_task(client, router, task: Task) -> None:
    inputs = [tensor(name, [value] * 2) for name, value in example_elements(task).items()]
    result = await client.infer(task.name, inputs, request_id="7")
    assert result.get_response().id == "7"
    expected = json.loads(json.dumps(to_hub_json(sample(task.output))))
    assert result.as_numpy("output").shape == (2, 1)
    assert [json.loads(element) for element in result.as_numpy("output").ravel()] == [expected] * 2
    ((_, items, _),) = router.received
    assert items == [task.input.model_validate(task.examples()[0])] * 2


@EVERY_TASK
async def test_supported_call_works_and_typed_request_gets_typed_response(grpc_address, task: Task) -> None:
    supported = next(call for call in dialect.supported_calls(task, task.name) if call.method == "RPC")
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        raw = await call(channel, f"/{supported.path}", supported.body)
    response = CLIENT.service_pb2.ModelInferResponse.FromString(raw)
    assert not response.raw_output_contents
    output = response.outputs[0]
    assert output.name == "output"
    items = [json.loads(element) for element in output.contents.bytes_contents]
    assert items == [json.loads(json.dumps(to_hub_json(sample(task.output))))]


async def test_synchronous_client(grpc_address) -> None:
    def infer() -> Any:
        with CLIENT.InferenceServerClient(grpc_address) as client:
            assert client.is_server_live() and client.is_server_ready()
            return client.infer("sentiment", [tensor("text", [b"a"])]).as_numpy("output").shape

    assert await asyncio.to_thread(infer) == (1, 1)


async def test_requested_outputs_and_parameters(client, router) -> None:
    parameters = {"top_k": 1, "sort": False, "content_type": "hf"}
    outputs = [CLIENT.InferRequestedOutput("labels"), CLIENT.InferRequestedOutput("scores", class_count=1)]
    options = {"outputs": outputs, "parameters": parameters, "sequence_id": 7, "priority": 1}
    result = await client.infer("sentiment", [tensor("args", [b"a"])], **options)
    assert result.as_numpy("labels").tolist() == [[b"word", b"word"]]
    assert result.as_numpy("scores").tolist() == [[b"0.500000:0:word"]]
    assert (router.received[0][2].top_k, router.received[0][2].sort) == (1, False)
    await client.infer("image-classification", [tensor("image", [IMAGE])])
    assert router.received[1][1][0].image == IMAGE


def infer_request(**fields: Any) -> Any:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}
    return CLIENT.service_pb2.ModelInferRequest(**{"model_name": "sentiment", "inputs": [text], **fields})


def top_k(datatype: str, **contents: Any) -> dict[str, Any]:
    return {"name": "top_k", "datatype": datatype, "shape": [1], "contents": contents}


async def infer(grpc_address: str, request: Any) -> Any:
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        raw = await call(channel, f"/{SERVICE}/ModelInfer", request.SerializeToString())
    return CLIENT.service_pb2.ModelInferResponse.FromString(raw)


@pytest.mark.parametrize(
    ("datatype", "contents"),
    [
        ("INT8", {"int_contents": [2]}),
        ("INT64", {"int64_contents": [2]}),
        ("UINT16", {"uint_contents": [2]}),
        ("UINT64", {"uint64_contents": [2]}),
        ("FP32", {"fp32_contents": [2]}),
        ("FP64", {"fp64_contents": [2]}),
        ("BYTES", {"bytes_contents": [b"2"]}),
    ],
)
async def test_typed_contents_of_each_datatype(
    grpc_address, router, datatype: str, contents: dict[str, Any]
) -> None:
    request = infer_request()
    request.inputs.add(**top_k(datatype, **contents))
    response = await infer(grpc_address, request)
    assert router.received[0][2].top_k == 2
    assert response.outputs[0].contents.bytes_contents and response.model_version == "1"


async def test_raw_contents_with_empty_typed_contents(grpc_address, router) -> None:
    """MLServer's client sends both."""
    request = infer_request(raw_input_contents=[b"\1\0\0\0b"])
    request.inputs[0].contents.CopyFrom(CLIENT.service_pb2.InferTensorContents())
    assert request.inputs[0].HasField("contents")
    response = await infer(grpc_address, request)
    assert router.received[0][1][0].text == "b"
    assert len(response.raw_output_contents) == len(response.outputs) == 3 and not response.outputs[
        0
    ].HasField("contents")


NAN = {"temperature": CLIENT.service_pb2.InferParameter(double_param=float("nan"))}


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"model_name": "nope"}, "NOT_FOUND", "no model is named 'nope'"),
        ({"model_version": "2"}, "NOT_FOUND", "no version '2'"),
        ({"model_name": "loading"}, "UNAVAILABLE", "on its way"),
        ({"inputs": []}, "INVALID_ARGUMENT", "no inputs"),
        ({"inputs": [top_k("BYTES")]}, "INVALID_ARGUMENT", "0 elements"),
        ({"inputs": [top_k("INT8", int_contents=[300])]}, "INVALID_ARGUMENT", "not a valid INT8"),
        ({"inputs": [top_k("FP16", fp32_contents=[1])]}, "INVALID_ARGUMENT", "only `raw_input_contents`"),
        ({"inputs": [{**top_k("BYTES"), "shape": [10**9, 10**9]}]}, "RESOURCE_EXHAUSTED", "too many"),
        ({"inputs": [{**top_k("BYTES"), "shape": [-1]}]}, "INVALID_ARGUMENT", "negative"),
        ({"inputs": [top_k("BYTES")] * 101}, "INVALID_ARGUMENT", "at most 100"),
        ({"raw_input_contents": [b"\1\0\0\0a"]}, "INVALID_ARGUMENT", "`raw_input_contents`"),
        ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", "`raw_input_contents`"),
        ({"outputs": [{"name": "logits"}]}, "INVALID_ARGUMENT", "no output 'logits'"),
        ({"parameters": {"x": CLIENT.service_pb2.InferParameter(double_param=1)}}, "INVALID_ARGUMENT", "`x`"),
        ({"model_name": "text-generation", "parameters": NAN}, "INVALID_ARGUMENT", "`temperature`"),
    ],
)
async def test_invalid_request_gets_status_code_and_message(
    grpc_address, fields: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await infer(grpc_address, infer_request(**fields))
    assert (error.value.code().name, message in error.value.details()) == (code, True), error.value.details()


async def test_overload_and_invalid_message_get_status_codes(grpc_address, router) -> None:
    router.outputs["sentiment"] = lambda _: Overloaded("full", retry_after=3)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await infer(grpc_address, infer_request())
    assert (error.value.code().name, error.value.details()) == ("RESOURCE_EXHAUSTED", "full")
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="Exception deserializing"):
            await call(channel, f"/{SERVICE}/ModelInfer", b"\xff")


async def test_health_and_metadata(client, router) -> None:
    assert await client.is_server_live() and await client.is_server_ready()
    ready = [
        await client.is_model_ready(*model)
        for model in (["sentiment"], ["loading"], ["nope"], ["sentiment", "2"])
    ]
    assert ready == [True, False, False, False]
    assert (await client.get_server_metadata()).name == "roster"
    metadata = await client.get_model_metadata("sentiment")
    inputs = [(input.name, input.datatype, list(input.shape)) for input in metadata.inputs]
    assert inputs == [("text", "BYTES", [-1])]
    router.startup_complete = False
    assert not await client.is_server_ready()


async def test_model_repository(client, router) -> None:
    index = (await client.get_model_repository_index()).models
    assert {model.name: model.state for model in index}["broken"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="operator"):
        await client.unload_model("sentiment")
    router.allow_model_control = True
    await client.unload_model("sentiment")
    assert not await client.is_model_ready("sentiment")
    await client.load_model("sentiment")
    assert await client.is_model_ready("sentiment")
    with pytest.raises(InferenceServerException, match="'config' cannot change it"):
        await client.load_model("sentiment", config="{}")
