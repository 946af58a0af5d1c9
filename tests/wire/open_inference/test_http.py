"""The Open Inference Protocol over HTTP, tested with Triton's own client and other clients' requests."""

import base64
import json
from collections.abc import Iterator

import httpx
import jsonschema
import numpy as np
import pytest
import tritonclient.http as client
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from deployments.dialects.open_inference import dialect
from deployments.errors import InvalidInput, Overloaded
from deployments.gateway.openapi import document
from deployments.schema import Label
from deployments.task import TASKS, Task
from deployments.tasks.embeddings import EmbeddingsOutput
from deployments.tasks.sentiment import SentimentOutput
from deployments.wire.task_json import to_hub_json
from tests.fake_router import IMAGE, FakeRouter, sample
from tests.wire.open_inference.triton_stubs import example_elements

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
INFER = "/v2/models/sentiment/infer"


@pytest.fixture
def triton(url: str, router: FakeRouter) -> Iterator[client.InferenceServerClient]:
    with client.InferenceServerClient(url.removeprefix("http://")) as triton:
        yield triton


@pytest.fixture
def http(url: str, router: FakeRouter) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as http:
        yield http


def tensor(name: str, values: list[bytes], *shape: int, binary: bool = True) -> client.InferInput:
    array = np.array(values, dtype=object).reshape(shape or (len(values),))
    input = client.InferInput(name, list(array.shape), "BYTES")
    return input.set_data_from_numpy(array, binary_data=binary)


@EVERY_TASK
@pytest.mark.parametrize("binary", [True, False])
def test_infer_returns_a_row_per_item_for_every_task(triton, router, task: Task, binary: bool) -> None:
    inputs = [tensor(name, [value] * 2, binary=binary) for name, value in example_elements(task).items()]
    outputs = [client.InferRequestedOutput("output", binary_data=binary)]
    result = triton.infer(task.name, inputs, outputs=outputs, request_id="7")
    assert result.get_response()["id"] == "7"
    output = result.get_output("output")
    assert output["shape"] == [2, 1]
    assert output["parameters"]["content_type"] == "hg_jsonlist"
    assert ("data" in output) == (not binary)
    expected = json.loads(json.dumps(to_hub_json(sample(task.output))))
    assert [json.loads(element) for element in result.as_numpy("output").ravel()] == [expected] * 2
    ((_, items, _),) = router.received
    assert items == [task.input.model_validate(task.examples()[0])] * 2


@EVERY_TASK
def test_every_tensor_of_the_metadata_can_be_requested(triton, task: Task) -> None:
    metadata = triton.get_model_metadata(task.name, "1")
    assert [input["name"] for input in metadata["inputs"]] == list(task.input.model_fields)
    inputs = [tensor(name, [value]) for name, value in example_elements(task).items()]
    outputs = [client.InferRequestedOutput(output["name"]) for output in metadata["outputs"]]
    result = triton.infer(task.name, inputs, "1", outputs)
    for expected in metadata["outputs"]:
        output = result.get_output(expected["name"])
        assert output["datatype"] == expected["datatype"]
        sizes = zip(output["shape"], expected["shape"], strict=True)
        assert [size if known >= 0 else -1 for size, known in sizes] == expected["shape"]
        assert result.as_numpy(expected["name"]).shape == tuple(output["shape"])


@EVERY_TASK
def test_every_supported_call_works(http, task: Task) -> None:
    for call in dialect.supported_calls(task, task.name):
        if call.method != "RPC":
            response = http.request(call.method, call.path, json=call.body)
            assert response.status_code == 200, response.text
            assert response.headers["content-type"].startswith("text/event-stream") == call.streams


@EVERY_TASK
def test_request_and_response_match_openapi(http, task: Task) -> None:
    openapi = document([dialect])
    call = dialect.supported_calls(task, task.name)[0]
    operation = openapi["paths"]["/v2/models/{model_id}/infer"]["post"]
    for value, documented in (
        (json.loads(json.dumps(call.body)), operation["requestBody"]),
        (http.post(call.path, json=call.body).json(), operation["responses"]["200"]),
    ):
        schema = documented["content"]["application/json"]["schema"]
        jsonschema.validate(value, {**schema, "components": openapi["components"]})


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_compressed_request(triton, router, compression: str | None) -> None:
    triton.infer("sentiment", [tensor("text", [b"Good."])], request_compression_algorithm=compression)
    assert router.received[0].inputs[0].text == "Good."


@pytest.mark.parametrize("binary", [None, True, False])
def test_binary_data_output_applies_to_all_outputs(http, binary: bool | None) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    parameters = {} if binary is None else {"binary_data_output": binary}
    response = http.post(INFER, json={"inputs": [text], "parameters": parameters})
    size = int(response.headers.get("inference-header-content-length", len(response.content)))
    assert (size < len(response.content)) == bool(binary)
    outputs = json.loads(response.content[:size])["outputs"]
    assert [output["name"] for output in outputs] == ["output", "labels", "scores"]
    sizes = [output["parameters"].get("binary_data_size", 0) for output in outputs]
    assert sum(sizes) == len(response.content) - size
    assert all(("data" in output) != bool(binary) for output in outputs)


def test_typed_tensors(triton, router) -> None:
    router.outputs["sentiment"] = lambda item: SentimentOutput(
        labels=[Label(label=item.text, score=0.25), Label(label="b", score=0.5)]
    )
    outputs = [
        client.InferRequestedOutput("labels"),
        client.InferRequestedOutput("scores", binary_data=False),
    ]
    result = triton.infer("sentiment", [tensor("text", ["é".encode(), b"x"], 2, 1)], outputs=outputs)
    assert result.as_numpy("labels").tolist() == [["é".encode(), b"b"], [b"x", b"b"]]
    scores = result.as_numpy("scores")
    assert (scores.dtype, scores.tolist()) == (np.float32, [[0.25, 0.5]] * 2)
    assert result.as_numpy("output") is None
    best = [client.InferRequestedOutput("scores", class_count=1)]
    result = triton.infer("sentiment", [tensor("text", [b"x"])], outputs=best)
    assert result.as_numpy("scores").tolist() == [[b"0.500000:1:b"]]


def test_embedding_tensor(triton, router) -> None:
    router.outputs["embeddings"] = lambda item: EmbeddingsOutput(embedding=[0.5, float(len(item.text))])
    outputs = [client.InferRequestedOutput("embedding")]
    result = triton.infer("embeddings", [tensor("input-0", [b"a", b"bc"])], outputs=outputs)
    assert result.as_numpy("embedding").tolist() == [[0.5, 1.0], [0.5, 2.0]]


def test_rows_of_different_length_or_without_value_return_400(triton, router) -> None:
    sizes = iter([1, 2, 0])
    router.outputs["embeddings"] = lambda _: EmbeddingsOutput(
        embedding=[0.5] * size if (size := next(sizes)) else None
    )
    outputs = [client.InferRequestedOutput("embedding")]
    with pytest.raises(InferenceServerException, match="1 to 2 values; request 'output'"):
        triton.infer("embeddings", [tensor("text", [b"a", b"b"])], outputs=outputs)
    with pytest.raises(InferenceServerException, match="has no 'embedding'"):
        triton.infer("embeddings", [tensor("text", [b"a"])], outputs=outputs)


@pytest.mark.parametrize("value", [IMAGE, base64.b64encode(IMAGE)])
def test_image_as_bytes_or_base64(triton, router, value: bytes) -> None:
    triton.infer("image-classification", [tensor("image", [value])])
    assert router.received[0].inputs[0].image == IMAGE


def test_failed_row_fails_the_request_with_its_index(triton, router) -> None:
    outcomes = iter([sample(TASKS["sentiment"].output), InvalidInput("not this one")])
    router.outputs["sentiment"] = lambda _: next(outcomes)
    with pytest.raises(InferenceServerException, match="row 1: not this one") as error:
        triton.infer("sentiment", [tensor("text", [b"a", b"b"])])
    assert error.value.status() == "400"
    with pytest.raises(InferenceServerException, match="row 1: the text is empty"):
        triton.infer("sentiment", [tensor("text", [b"a", b""])])
    with pytest.raises(InferenceServerException, match=r"^\[400\] `top_k`"):
        triton.infer("sentiment", [tensor("text", [b"a", b"b"])], parameters={"top_k": 0})


def test_overload_returns_429_with_retry_after(http, router) -> None:
    router.outputs["sentiment"] = lambda _: Overloaded("full", retry_after=3)
    for data in (["a"], ["a", "b"]):
        response = http.post(
            INFER,
            json={"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data}]},
        )
        assert (response.status_code, response.headers["retry-after"]) == (429, "3")


async def test_asynchronous_client(url: str, router) -> None:
    async with aio.InferenceServerClient(url.removeprefix("http://")) as triton:
        assert await triton.is_server_live() and await triton.is_model_ready("sentiment")
        result = await triton.infer("sentiment", [tensor("text", [b"a"])])
        assert result.as_numpy("output").shape == (1, 1)
        with pytest.raises(InferenceServerException, match="no model is named 'nope'"):
            await triton.infer("nope", [tensor("text", [b"a"])])
