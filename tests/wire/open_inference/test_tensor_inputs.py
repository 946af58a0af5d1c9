"""How a task's fields and parameters come as tensors, as MLServer's and KServe's clients send them."""

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
from tests.fake_router import PICTURE, fetching

INFER = "/v2/models/sentiment/infer"


def body(*inputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    filled = [{"datatype": "BYTES", "shape": [len(one["data"])], **one} for one in inputs]
    return {"inputs": filled, **others}


@pytest.mark.parametrize("name", ["args", "array_inputs", "inputs", "input-0", "text"])
async def test_the_lone_input_has_any_name(http, router, name: str) -> None:
    inputs = {"name": name, "data": ["a", "b"], "parameters": {"content_type": "str"}}
    nulls = {"id": None, "parameters": None, "outputs": None}
    assert (await http.post(INFER, json=body(inputs, **nulls))).status_code == 200
    assert [item.text for item in router.asked[0][1]] == ["a", "b"]


@pytest.mark.parametrize(
    "given",
    [
        {"parameters": {"top_k": 2, "sort": False, "priority": 1, "sequence_id": 3, "triton_x": 1}},
        {"parameters": {"content_type": "hf", "headers": {}, "timeout": 5, "top_k": 2, "sort": False}},
    ],
)
async def test_parameters_of_a_request(http, router, given: dict[str, Any]) -> None:
    assert (await http.post(INFER, json=body({"name": "text", "data": ["a"]}, **given))).status_code == 200
    params = router.asked[0][2]
    assert (params.top_k, params.sort) == (2, False)


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("top_k", {"datatype": "INT32", "shape": [1], "data": [2]}, 2),
        ("top_k", {"datatype": "UINT8", "shape": [2, 1], "data": [[2], [2]]}, 2),
        ("top_k", {"datatype": "BYTES", "shape": [1], "data": ["2"]}, 2),
        ("sort", {"datatype": "BOOL", "shape": [1], "data": [False]}, False),
        ("function_to_apply", {"datatype": "BYTES", "shape": [1], "data": ["sigmoid"]}, "sigmoid"),
    ],
)
async def test_parameters_as_tensors(http, router, name: str, told: dict[str, Any], expected: Any) -> None:
    given = body({"name": "text", "data": ["a", "b"]}, {"name": name, **told})
    assert (await http.post(INFER, json=given)).status_code == 200
    assert getattr(router.asked[0][2], name) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"inputs": [{"name": "stop", "data": ["a", "b"]}]},
        {"inputs": [{"name": "stop", "data": ['["a", "b"]']}]},
        {"parameters": {"stop": ["a", "b"]}},
        {"parameters": {"stop": '["a", "b"]'}},
    ],
)
async def test_a_parameter_that_is_a_list(http, router, given: dict[str, Any]) -> None:
    asked = body(
        {"name": "text", "data": ["x"]}, *given.get("inputs", ()), parameters=given.get("parameters")
    )
    assert (await http.post("/v2/models/text-generation/infer", json=asked)).status_code == 200
    assert router.asked[0][2].stop == ["a", "b"]


ENCODED = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize("content_type", [None, "base64", "pillow_image", "str"])
async def test_a_picture_in_json(http, router, content_type: str | None) -> None:
    told = {"name": "inputs", "data": [ENCODED], "parameters": {"content_type": content_type}}
    assert (await http.post("/v2/models/image-classification/infer", json=body(told))).status_code == 200
    assert router.asked[0][1][0].image == PICTURE


@pytest.mark.parametrize(
    ("count", "status", "said", "fetched"),
    [(16, 400, "row 3: 'allowed.example' answered 404", 16), (17, 413, "17 pictures", 0)],
)
async def test_each_url_is_fetched_once(
    http, router, count: int, status: int, said: str, fetched: int
) -> None:
    fetcher, asked = fetching(lambda path: httpx.Response(404 if path == "/3" else 200, content=PICTURE))
    router.validator = RequestValidator(fetcher)
    urls = [f"https://allowed.example/{place}" for place in range(count)]
    path = "/v2/models/image-classification/infer"
    answered = await http.post(path, json=body({"name": "image", "data": urls}))
    assert (answered.status_code, said in answered.json()["error"]) == (status, True), answered.text
    assert len(asked) == fetched


async def test_a_picture_alone(http, router) -> None:
    headers = {"inference-header-content-length": "0"}
    answered = await http.post("/v2/models/object-detection/infer", content=PICTURE, headers=headers)
    assert answered.status_code == 200, answered.text
    assert router.asked[0][1][0].image == PICTURE


SIMILAR = "/v2/models/sentence-similarity/infer"


@pytest.mark.parametrize(
    ("told", "expected"),
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
async def test_a_field_of_texts(http, router, told: dict[str, Any], expected: list[list[str]]) -> None:
    given = body({"name": "sentences", **told})
    answered = await http.post(SIMILAR, json=given)
    assert answered.status_code == 200, answered.text
    assert [item.sentences for item in router.asked[0][1]] == expected


async def test_a_conversation(http, router) -> None:
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]
    path = "/v2/models/conversational/infer"
    for data in (["Hi.", "Ho."], [json.dumps(talk)] * 2):
        assert (await http.post(path, json=body({"name": "array_inputs", "data": data}))).status_code == 200
    turns = [[message.content for message in item.messages] for _, items, _ in router.asked for item in items]
    assert turns == [["Hi."], ["Ho."], ["Hi.", "Ho."], ["Hi.", "Ho."]]


MANY = b"[" + b"[]," * 10**6 + b"[]]"


@pytest.mark.parametrize(
    ("task", "tensors", "parameters"),
    [
        ("sentence-similarity", [Tensor("sentences", "BYTES", (1,), [MANY])], {}),
        ("sentence-similarity", [Tensor("sentences", "BYTES", (2,), [MANY[: 2 * 10**6]] * 2)], {}),
        ("sentiment", [Tensor("text", "BYTES", (1,), [MANY], {"content_type": "hg_json"})], {}),
        ("text-generation", [Tensor("stop", "BYTES", (1,), [MANY])], {}),
        ("text-generation", [], {"stop": MANY.decode()}),
    ],
)
def test_json_in_an_element_is_bounded_before_it_is_read(task, tensors, parameters) -> None:
    with pytest.raises(TooLarge, match="lists and objects"):
        parse_items(TASKS[task], tensors, parameters)
