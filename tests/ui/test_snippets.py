"""Code snippets: each runs as displayed and sends the request of the page."""

import contextlib
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor_pool import DescriptorPool

from deployments.task import TASKS
from deployments.wire.caikit.rpcs import typed_rpcs
from tests.ui.conftest import Servers
from tests.ui.ui_server import DemoRouter, encoded_image
from ui import snippets
from ui.snippets import GatewayAddress, InferenceRequest

PARAMS = {"sentiment": {"top_k": 2}, "summarization": {"max_new_tokens": 9}, "text-generation": {"seed": 3}}


def make_request(gateway_url: str, name: str, **fields: Any) -> InferenceRequest:
    task = TASKS[name]
    fields = {"item": task.examples()[-1], "params": PARAMS.get(name, {}), "files": {}, **fields}
    return InferenceRequest(GatewayAddress(gateway_url, "127.0.0.1:9000"), name, task, **fields)


def pop_received(router: DemoRouter) -> tuple[Any, Any]:
    """Return input and parameters of the last request, and drop all requests."""
    request = router.received[-1]
    router.received.clear()
    return request.inputs[0], request.params


def run_python(code: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, {})


def run_shell(code: str, folder: Path) -> None:
    env = {**os.environ, "no_proxy": "127.0.0.1"}
    command = code.replace("curl ", "curl -sS --fail-with-body ")
    process = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("name", list(TASKS))
def test_snippet_sends_the_request(servers: Servers, router: DemoRouter, name: str, tmp_path: Path) -> None:
    request = make_request(servers.gateway_url, name)
    task = TASKS[name]
    expected = task.input.model_validate(request.item), task.params.model_validate(request.params)
    run_shell(snippets.curl_snippet(request), tmp_path)
    assert pop_received(router) == expected
    run_python(snippets.python_snippet(request))
    assert pop_received(router) == expected
    run_python(snippets.inference_client_snippet(request))
    assert pop_received(router) == expected


@pytest.mark.parametrize("params", [{}, {"threshold": 0.3}])
def test_snippet_reads_a_long_image_from_its_file(
    servers: Servers,
    router: DemoRouter,
    params: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = encoded_image() + b"\0" * 2000
    file = "it's my image.png"
    (tmp_path / file).write_bytes(image)
    monkeypatch.chdir(tmp_path)
    name = "object-detection"
    item = TASKS[name].input(image=image).model_dump(mode="json")
    request = make_request(servers.gateway_url, name, item=item, files={"image": file}, params=params)
    codes = snippets.all_snippets(request)
    assert all(item["image"] not in code for code in codes)
    for code, (title, language) in zip(codes, snippets.LANGUAGES.items(), strict=True):
        if title == "Caikit gRPC":
            assert code.endswith("ObjectDetectionTaskPredict")
            continue
        run_shell(code, tmp_path) if language == "shell" else run_python(code)
        assert pop_received(router)[0].image == image


@pytest.mark.parametrize("name", list(TASKS))
def test_grpcurl_snippet_names_an_existing_rpc_and_its_fields(name: str) -> None:
    code = snippets.grpcurl_snippet(make_request("http://127.0.0.1:8000", name))
    rpc = code.rpartition(" ")[2]
    rpcs = {f"{rpc.service}/{rpc.name}": rpc for rpc in typed_rpcs(DescriptorPool())}
    message = orjson.loads(code.split(" -d '")[1].split("' \\\n")[0].replace("'\"'\"'", "'"))
    assert set(message) <= set(rpcs[rpc].request.DESCRIPTOR.fields_by_name)
    assert f"mm-model-id: {name}" in code


def test_grpcurl_snippet_lists_parameters_without_a_caikit_field() -> None:
    request = make_request("http://x", "sentiment")
    assert snippets.grpcurl_snippet(request).startswith("# The Caikit rpc has no top_k\n")
