"""The Open Inference Protocol over HTTP, judged by Triton's own client and by others' requests."""

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
from tests.fake_router import PICTURE, FakeRouter, sample
from tests.wire.open_inference.triton_stubs import cells

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
    made = client.InferInput(name, list(array.shape), "BYTES")
    return made.set_data_from_numpy(array, binary_data=binary)


@EVERY_TASK
@pytest.mark.parametrize("binary", [True, False])
def test_every_task_answers_each_row(triton, router, task: Task, binary: bool) -> None:
    inputs = [tensor(name, [value] * 2, binary=binary) for name, value in cells(task).items()]
    outputs = [client.InferRequestedOutput("output", binary_data=binary)]
    answered = triton.infer(task.name, inputs, outputs=outputs, request_id="7")
    assert answered.get_response()["id"] == "7"
    told = answered.get_output("output")
    assert told["shape"] == [2, 1]
    assert told["parameters"]["content_type"] == "hg_jsonlist"
    assert ("data" in told) == (not binary)
    expected = json.loads(json.dumps(to_hub_json(sample(task.output))))
    assert [json.loads(one) for one in answered.as_numpy("output").ravel()] == [expected] * 2
    ((_, items, _),) = router.asked
    assert items == [task.input.model_validate(task.examples()[0])] * 2


@EVERY_TASK
def test_every_tensor_of_the_metadata_can_be_asked_for(triton, task: Task) -> None:
    told = triton.get_model_metadata(task.name, "1")
    assert [one["name"] for one in told["inputs"]] == list(task.input.model_fields)
    inputs = [tensor(name, [value]) for name, value in cells(task).items()]
    outputs = [client.InferRequestedOutput(one["name"]) for one in told["outputs"]]
    answered = triton.infer(task.name, inputs, "1", outputs)
    for one in told["outputs"]:
        seen = answered.get_output(one["name"])
        assert seen["datatype"] == one["datatype"]
        assert [
            size if asked >= 0 else -1 for size, asked in zip(seen["shape"], one["shape"], strict=True)
        ] == (one["shape"])
        assert answered.as_numpy(one["name"]).shape == tuple(seen["shape"])


@EVERY_TASK
def test_every_offer_works(http, task: Task) -> None:
    for offer in dialect.supported_calls(task, task.name):
        if offer.method != "RPC":
            answered = http.request(offer.method, offer.path, json=offer.body)
            assert answered.status_code == 200, answered.text
            assert answered.headers["content-type"].startswith("text/event-stream") == offer.streams


@EVERY_TASK
def test_answers_are_as_documented(http, task: Task) -> None:
    told = document([dialect])
    asked = dialect.supported_calls(task, task.name)[0]
    path = told["paths"]["/v2/models/{model_id}/infer"]["post"]
    for value, where in (
        (json.loads(json.dumps(asked.body)), path["requestBody"]),
        (http.post(asked.path, json=asked.body).json(), path["responses"]["200"]),
    ):
        schema = where["content"]["application/json"]["schema"]
        jsonschema.validate(value, {**schema, "components": told["components"]})


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_a_compressed_request(triton, router, compression: str | None) -> None:
    triton.infer("sentiment", [tensor("text", [b"Good."])], request_compression_algorithm=compression)
    assert router.asked[0][1][0].text == "Good."


@pytest.mark.parametrize("asked", [None, True, False])
def test_a_client_that_names_no_output_chooses_binary_for_all(http, asked: bool | None) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    parameters = {} if asked is None else {"binary_data_output": asked}
    answered = http.post(INFER, json={"inputs": [text], "parameters": parameters})
    size = int(answered.headers.get("inference-header-content-length", len(answered.content)))
    assert (size < len(answered.content)) == bool(asked)
    (output,) = json.loads(answered.content[:size])["outputs"]
    assert output["parameters"].get("binary_data_size", 0) == len(answered.content) - size
    assert ("data" in output) != bool(asked)


def test_typed_tensors(triton, router) -> None:
    router.outputs["sentiment"] = lambda item: SentimentOutput(
        labels=[Label(label=item.text, score=0.25), Label(label="b", score=0.5)]
    )
    wanted = [client.InferRequestedOutput("labels"), client.InferRequestedOutput("scores", binary_data=False)]
    answered = triton.infer("sentiment", [tensor("text", ["é".encode(), b"x"], 2, 1)], outputs=wanted)
    assert answered.as_numpy("labels").tolist() == [["é".encode(), b"b"], [b"x", b"b"]]
    scores = answered.as_numpy("scores")
    assert (scores.dtype, scores.tolist()) == (np.float32, [[0.25, 0.5]] * 2)
    assert answered.as_numpy("output") is None
    best = [client.InferRequestedOutput("scores", class_count=1)]
    answered = triton.infer("sentiment", [tensor("text", [b"x"])], outputs=best)
    assert answered.as_numpy("scores").tolist() == [[b"0.500000:1:b"]]


def test_an_embedding(triton, router) -> None:
    router.outputs["embeddings"] = lambda item: EmbeddingsOutput(embedding=[0.5, float(len(item.text))])
    wanted = [client.InferRequestedOutput("embedding")]
    answered = triton.infer("embeddings", [tensor("input-0", [b"a", b"bc"])], outputs=wanted)
    assert answered.as_numpy("embedding").tolist() == [[0.5, 1.0], [0.5, 2.0]]


def test_rows_that_make_no_tensor(triton, router) -> None:
    rows = iter([1, 2, 0])
    router.outputs["embeddings"] = lambda _: EmbeddingsOutput(
        embedding=[0.5] * size if (size := next(rows)) else None
    )
    wanted = [client.InferRequestedOutput("embedding")]
    with pytest.raises(InferenceServerException, match="1 to 2 values; request 'output'"):
        triton.infer("embeddings", [tensor("text", [b"a", b"b"])], outputs=wanted)
    with pytest.raises(InferenceServerException, match="has no 'embedding'"):
        triton.infer("embeddings", [tensor("text", [b"a"])], outputs=wanted)


@pytest.mark.parametrize("value", [PICTURE, base64.b64encode(PICTURE)])
def test_a_picture_in_binary(triton, router, value: bytes) -> None:
    triton.infer("image-classification", [tensor("image", [value])])
    assert router.asked[0][1][0].image == PICTURE


def test_a_failed_row_fails_the_request_by_its_number(triton, router) -> None:
    answers = iter([sample(TASKS["sentiment"].output), InvalidInput("not this one")])
    router.outputs["sentiment"] = lambda _: next(answers)
    with pytest.raises(InferenceServerException, match="row 1: not this one") as told:
        triton.infer("sentiment", [tensor("text", [b"a", b"b"])])
    assert told.value.status() == "400"
    with pytest.raises(InferenceServerException, match="row 1: the text is empty"):
        triton.infer("sentiment", [tensor("text", [b"a", b""])])
    with pytest.raises(InferenceServerException, match=r"^\[400\] `top_k`"):
        triton.infer("sentiment", [tensor("text", [b"a", b"b"])], parameters={"top_k": 0})


def test_overload_is_told_with_its_wait(http, router) -> None:
    router.outputs["sentiment"] = lambda _: Overloaded("full", retry_after=3)
    for data in (["a"], ["a", "b"]):
        answered = http.post(
            INFER,
            json={"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data}]},
        )
        assert (answered.status_code, answered.headers["retry-after"]) == (429, "3")


async def test_the_asynchronous_client(url: str, router) -> None:
    async with aio.InferenceServerClient(url.removeprefix("http://")) as triton:
        assert await triton.is_server_live() and await triton.is_model_ready("sentiment")
        answered = await triton.infer("sentiment", [tensor("text", [b"a"])])
        assert answered.as_numpy("output").shape == (1, 1)
        with pytest.raises(InferenceServerException, match="no model is named 'nope'"):
            await triton.infer("nope", [tensor("text", [b"a"])])
