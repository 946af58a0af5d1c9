"""A task's fields and parameters as tensors, in the forms that MLServer's and KServe's clients send."""

import base64
import json
from typing import Any

import httpx
import pytest

from deployments.errors import TooLarge
from deployments.routing.validation import RequestValidator
from deployments.task import TASKS
from deployments.wire.open_inference.tensor_inputs import parse_items
from deployments.wire.open_inference.tensors import Tensor
from tests.fake_router import IMAGE, mock_image_fetcher

INFER = "/v2/models/sentiment/infer"


def body(*inputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    tensors = [{"datatype": "BYTES", "shape": [len(input["data"])], **input} for input in inputs]
    return {"inputs": tensors, **others}


@pytest.mark.parametrize("name", ["args", "array_inputs", "inputs", "input-0", "text"])
async def test_only_required_input_may_have_any_name(http, router, name: str) -> None:
    inputs = {"name": name, "data": ["a", "b"], "parameters": {"content_type": "str"}}
    nulls = {"id": None, "parameters": None, "outputs": None}
    assert (await http.post(INFER, json=body(inputs, **nulls))).status_code == 200
    assert [item.text for item in router.received[0].inputs] == ["a", "b"]


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": {"top_k": 2, "sort": False, "priority": 1, "sequence_id": 3, "sequence_end": True}},
        {"parameters": {"content_type": "hf", "headers": {}, "timeout": 5, "top_k": 2, "sort": False}},
    ],
)
async def test_request_parameters_of_the_task_and_the_protocol(http, router, fields: dict[str, Any]) -> None:
    assert (await http.post(INFER, json=body({"name": "text", "data": ["a"]}, **fields))).status_code == 200
    params = router.received[0][2]
    assert (params.top_k, params.sort) == (2, False)


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("top_k", {"datatype": "INT32", "shape": [1], "data": [2]}, 2),
        ("top_k", {"datatype": "UINT8", "shape": [2, 1], "data": [[2], [2]]}, 2),
        ("top_k", {"datatype": "BYTES", "shape": [1], "data": ["2"]}, 2),
        ("sort", {"datatype": "BOOL", "shape": [1], "data": [False]}, False),
        ("function_to_apply", {"datatype": "BYTES", "shape": [1], "data": ["sigmoid"]}, "sigmoid"),
    ],
)
async def test_parameter_as_tensor(http, router, name: str, tensor: dict[str, Any], expected: Any) -> None:
    request = body({"name": "text", "data": ["a", "b"]}, {"name": name, **tensor})
    assert (await http.post(INFER, json=request)).status_code == 200
    assert getattr(router.received[0][2], name) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": [{"name": "stop", "data": ["a", "b"]}]},
        {"inputs": [{"name": "stop", "data": ['["a", "b"]']}]},
        {"parameters": {"stop": ["a", "b"]}},
        {"parameters": {"stop": '["a", "b"]'}},
    ],
)
async def test_list_parameter_as_tensor_list_or_json(http, router, fields: dict[str, Any]) -> None:
    inputs, parameters = fields.get("inputs", ()), fields.get("parameters")
    request = body({"name": "text", "data": ["x"]}, *inputs, parameters=parameters)
    assert (await http.post("/v2/models/text-generation/infer", json=request)).status_code == 200
    assert router.received[0][2].stop == ["a", "b"]


ENCODED = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize("content_type", [None, "base64", "pillow_image", "str"])
async def test_image_in_json(http, router, content_type: str | None) -> None:
    tensor = {"name": "inputs", "data": [ENCODED], "parameters": {"content_type": content_type}}
    assert (await http.post("/v2/models/image-classification/infer", json=body(tensor))).status_code == 200
    assert router.received[0][1][0].image == IMAGE


@pytest.mark.parametrize(
    ("count", "status", "message", "fetched"),
    [(16, 400, "row 3: 'allowed.example' answered 404", 16), (17, 413, "17 images", 0)],
)
async def test_each_image_url_is_fetched_once(
    http, router, count: int, status: int, message: str, fetched: int
) -> None:
    fetcher, paths = mock_image_fetcher(
        lambda path: httpx.Response(404 if path == "/3" else 200, content=IMAGE)
    )
    router.validator = RequestValidator(fetcher)
    urls = [f"https://allowed.example/{index}" for index in range(count)]
    path = "/v2/models/image-classification/infer"
    response = await http.post(path, json=body({"name": "image", "data": urls}))
    assert (response.status_code, message in response.json()["error"]) == (status, True), response.text
    assert len(paths) == fetched


async def test_image_as_raw_body(http, router) -> None:
    headers = {"inference-header-content-length": "0"}
    response = await http.post("/v2/models/object-detection/infer", content=IMAGE, headers=headers)
    assert response.status_code == 200, response.text
    assert router.received[0][1][0].image == IMAGE


SIMILAR = "/v2/models/sentence-similarity/infer"


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ({"shape": [3], "data": ["a", "b", "c"]}, [["a", "b", "c"]]),
        ({"shape": [1, 3], "data": ["a", "b", "c"]}, [["a", "b", "c"]]),
        ({"shape": [2, 2], "data": [["a", "b"], ["c", "d"]]}, [["a", "b"], ["c", "d"]]),
        ({"shape": [2, 1], "data": ["a", "b"]}, [["a"], ["b"]]),
        ({"shape": [2], "data": ['["a"]', '["b", "c"]']}, [["a"], ["b", "c"]]),
        ({"shape": [2, 1], "data": ['["a"]', '["b", "c"]']}, [["a"], ["b", "c"]]),
        ({"shape": [1], "data": ['["a"]'], "parameters": {"content_type": "hg_jsonlist"}}, [["a"]]),
        ({"shape": [2], "data": ["[1] A footnote.", "[2]"]}, [["[1] A footnote.", "[2]"]]),
        ({"shape": [2], "data": ["[1]", "[2]"]}, [["[1]", "[2]"]]),
    ],
)
async def test_list_of_texts_as_rows_or_json(
    http, router, tensor: dict[str, Any], expected: list[list[str]]
) -> None:
    request = body({"name": "sentences", **tensor})
    response = await http.post(SIMILAR, json=request)
    assert response.status_code == 200, response.text
    assert [item.sentences for item in router.received[0][1]] == expected


async def test_conversation_as_text_or_json(http, router) -> None:
    messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]
    path = "/v2/models/conversational/infer"
    for data in (["Hi.", "Ho."], [json.dumps(messages)] * 2):
        assert (await http.post(path, json=body({"name": "array_inputs", "data": data}))).status_code == 200
    turns = [
        [message.content for message in item.messages] for _, items, _ in router.received for item in items
    ]
    assert turns == [["Hi."], ["Ho."], ["Hi.", "Ho."], ["Hi.", "Ho."]]


MANY_LISTS = b"[" + b"[]," * 10**6 + b"[]]"


@pytest.mark.parametrize(
    ("task", "tensors", "parameters"),
    [
        ("sentence-similarity", [Tensor("sentences", "BYTES", (1,), [MANY_LISTS])], {}),
        ("sentence-similarity", [Tensor("sentences", "BYTES", (2,), [MANY_LISTS[: 2 * 10**6]] * 2)], {}),
        ("sentiment", [Tensor("text", "BYTES", (1,), [MANY_LISTS], {"content_type": "hg_json"})], {}),
        ("text-generation", [Tensor("stop", "BYTES", (1,), [MANY_LISTS])], {}),
        ("text-generation", [], {"stop": MANY_LISTS.decode()}),
    ],
)
def test_json_in_an_element_is_limited_before_it_is_parsed(task, tensors, parameters) -> None:
    with pytest.raises(TooLarge, match="lists and objects"):
        parse_items(TASKS[task], tensors, parameters)
