"""API endpoints for `gradio_client`: one per task, named like it."""

from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from deployments.task import TASKS
from tests.ui.conftest import Servers
from tests.ui.ui_server import DemoRouter, encoded_image


@pytest.fixture(scope="module")
def client(servers: Servers) -> Client:
    return Client(servers.ui_url, verbose=False)


def test_api_has_one_endpoint_per_task(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in TASKS}
    parameters = {
        parameter["parameter_name"]: parameter for parameter in endpoints["/sentiment"]["parameters"]
    }
    assert set(parameters) == {"text", "model", *TASKS["sentiment"].params.model_fields}
    required = [name for name, parameter in parameters.items() if not parameter["parameter_has_default"]]
    assert required == ["text"]


@pytest.mark.parametrize("name", list(TASKS))
def test_endpoint_accepts_the_tasks_example(
    client: Client, router: DemoRouter, name: str, tmp_path: Path
) -> None:
    item = dict(TASKS[name].examples()[0])
    if "image" in item:
        (tmp_path / "image.png").write_bytes(encoded_image())
        item["image"] = handle_file(str(tmp_path / "image.png"))
    assert client.predict(**item, api_name=f"/{name}")
    assert router.received[-1].model_id == name


def test_endpoint_model_argument_and_error_message(client: Client, router: DemoRouter) -> None:
    router.add_model("another", "sentiment")
    client.predict(text="x", model="another", top_k=1, api_name="/sentiment")
    assert router.received[-1].model_id == "another"
    assert router.received[-1].params.top_k == 1
    with pytest.raises(AppError, match="No model is named 'unknown'"):
        client.predict(text="x", model="unknown", api_name="/sentiment")


def test_endpoint_refuses_a_path_outside_the_upload_folder(client: Client, router: DemoRouter) -> None:
    with pytest.raises(AppError, match="must be an uploaded file"):
        client.predict(image={"path": "/etc/hostname"}, api_name="/object-detection")
    assert router.received == []
