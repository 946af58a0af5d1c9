"""Every task in the Hub's form: responses, batches, streams and errors conform to the OpenAPI document."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.errors import InvalidInput, Overloaded
from deployments.schema import MAX_ITEMS, field_types
from deployments.task import TASKS, Task
from tests.fake_router import IMAGE, sample
from tests.wire.huggingface.task_marks import every_image_task, every_task


@every_task
async def test_example_receives_documented_response(http, assert_conforms, task: Task) -> None:
    for example in task.examples():
        request = {"inputs": example, "parameters": {}}
        assert_conforms(request, f"HuggingFace{task.title}Request")
        response = await http.post(f"/models/{task.name}", json=request)
        assert response.status_code == 200, response.text
        assert_conforms(response.json(), f"HuggingFace{task.title}Answer")
        assert_conforms(response.json(), "HuggingFaceAnswer")


@every_task
async def test_bare_value_equals_object_with_one_field(http, router, assert_conforms, task: Task) -> None:
    example = task.examples()[0]
    if len(example) == 1:
        (bare,) = example.values()
        assert_conforms({"inputs": bare}, f"HuggingFace{task.title}Request")
        named = await http.post(f"/models/{task.name}", json={"inputs": example})
        response = await http.post(f"/models/{task.name}", json={"inputs": bare})
        assert response.json() == named.json()
        assert router.received[0] == router.received[1]


@every_task
async def test_batch_returns_output_per_item(http, router, assert_conforms, task: Task) -> None:
    request = {"inputs": [task.examples()[0], task.examples()[0]]}
    assert_conforms(request, f"HuggingFace{task.title}Request")
    batch = (await http.post(f"/models/{task.name}", json=request)).json()
    assert_conforms(batch, f"HuggingFace{task.title}Answer")
    single = (await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})).json()
    assert batch == [single[0] if task.single_output_in_list else single] * 2
    assert len(router.received[0].inputs) == 2


@every_task
async def test_failed_item_of_batch_has_error_in_its_place(http, router, assert_conforms, task: Task) -> None:
    results = iter([InvalidInput("not this one"), sample(task.output)])
    router.outputs[task.name] = lambda _: next(results)
    response = await http.post(f"/models/{task.name}", json={"inputs": [task.examples()[0]] * 2})
    assert response.status_code == 200
    assert response.json()[0] == {"error": "not this one", "error_type": "validation"}
    assert_conforms(response.json(), f"HuggingFace{task.title}Answer")


@every_task
async def test_error_of_single_input_is_error_response(http, router, task: Task) -> None:
    router.outputs[task.name] = lambda _: Overloaded("full", retry_after=3)
    response = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})
    assert response.status_code == 429
    assert response.json() == {"error": "full", "error_type": "overloaded"}
    assert response.headers["retry-after"] == "3"


@every_task
async def test_every_route_and_task_name_performs_task(http, task: Task) -> None:
    expected = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})
    for name in task.names:
        for path in (f"/models/{task.name}/pipeline/{name}", f"/pipeline/{name}/{task.name}"):
            response = await http.post(path, json={"inputs": task.examples()[0]})
            assert response.status_code == 200, path
            assert response.json() == expected.json()


@every_task
async def test_name_of_another_task_is_422(http, router, task: Task) -> None:
    for name in {name for other in TASKS.values() for name in other.names} - {*task.names} | {"unknown-task"}:
        response = await http.post(f"/models/{task.name}/pipeline/{name}", json={"inputs": "hi"})
        assert response.status_code == 422
        assert repr(name) in response.json()["error"]
    assert not router.received


@every_task
async def test_batch_over_item_limit_is_413(http, router, task: Task) -> None:
    response = await http.post(
        f"/models/{task.name}", json={"inputs": [task.examples()[0]] * (MAX_ITEMS + 1)}
    )
    assert response.status_code == 413
    assert not router.received


@every_task
async def test_unknown_parameter_is_422_and_named(http, task: Task) -> None:
    body = {"inputs": task.examples()[0], "parameters": {"colour": "red"}}
    response = await http.post(f"/models/{task.name}", json=body)
    assert response.status_code == 422
    assert "colour" in response.json()["error"]


@every_task
async def test_stream_sends_chunks_or_is_refused(http, router, assert_conforms, task: Task) -> None:
    response = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0], "stream": True})
    if task.chunk is None:
        assert response.status_code == 422
        assert "stream" in response.json()["error"]
        return
    assert response.headers["content-type"].startswith("text/event-stream")
    (event,) = response.text.strip().split("\n\n")
    chunk = json.loads(event.removeprefix("data: "))
    assert chunk == json.loads(sample(task.chunk).model_dump_json())
    assert_conforms(chunk, task.chunk.__name__)
    assert router.closed_streams == [task.name]


@every_image_task
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "image/png"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
    ids=str,
)
async def test_raw_body_is_image(http, router, task: Task, headers: dict[str, str]) -> None:
    response = await http.post(f"/models/{task.name}", content=IMAGE, headers=headers)
    assert response.status_code == 200, response.text
    (field,) = field_types(task.input)
    assert getattr(router.received[0].inputs[0], field) == IMAGE


@every_image_task
async def test_raw_body_that_is_no_image_is_422(http, task: Task) -> None:
    response = await http.post(f"/models/{task.name}", content=b"GIF89a, or not", headers={})
    assert response.status_code == 422
    assert "not an image" in response.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@every_task
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_json_is_accepted_or_refused_with_422_or_413(http, task: Task, data: st.DataObject) -> None:
    names = st.sampled_from([*task.input.model_fields, *task.params.model_fields, "role", "content"])
    value = JSON | st.dictionaries(names, JSON, max_size=3)
    body = {"inputs": data.draw(value | st.lists(value, max_size=3)), "parameters": data.draw(value)}
    response = await http.post(f"/models/{task.name}", json=body)
    assert response.status_code in (200, 413, 422), response.text
