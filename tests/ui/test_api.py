"""What `gradio_client` lists and calls: one endpoint per task, by its name."""

from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from deployments.task import TASKS
from tests.ui.ui_server import House, picture


@pytest.fixture(scope="module")
def client(served: Any) -> Client:
    return Client(served[2], verbose=False)


def test_there_is_one_endpoint_per_task(client: Client) -> None:
    listed = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(listed) == {f"/{name}" for name in TASKS}
    fields = {one["parameter_name"]: one for one in listed["/sentiment"]["parameters"]}
    assert set(fields) == {"text", "top_k", "function_to_apply", "sort", "model"}
    assert [name for name, one in fields.items() if not one["parameter_has_default"]] == ["text"]


@pytest.mark.parametrize("name", list(TASKS))
def test_it_answers(client: Client, house: House, name: str, tmp_path: Path) -> None:
    item = dict(TASKS[name].examples()[0])
    if "image" in item:
        (tmp_path / "house.png").write_bytes(picture())
        item["image"] = handle_file(str(tmp_path / "house.png"))
    assert client.predict(**item, api_name=f"/{name}")
    assert house.asked[-1][0] == name


def test_a_model_can_be_named_and_an_error_is_a_sentence(client: Client, house: House) -> None:
    house.add("another", "sentiment")
    client.predict(text="x", model="another", top_k=1, api_name="/sentiment")
    assert house.asked[-1][0] == "another"
    assert house.asked[-1][2].top_k == 1
    with pytest.raises(AppError, match="No model is named 'nobody'"):
        client.predict(text="x", model="nobody", api_name="/sentiment")


def test_no_file_of_the_server_is_read(client: Client, house: House) -> None:
    with pytest.raises(AppError, match="Only an uploaded file"):
        client.predict(image={"path": "/etc/hostname"}, api_name="/object-detection")
    assert house.asked == []
