"""The code that the page shows runs as it is shown, and says the same as the page."""

import contextlib
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from deployments.task import TASKS
from deployments.wire.caikit.rpcs import methods
from tests.ui.ui_server import House, picture
from ui import snippets as calls
from ui.snippets import Asked, Door

PARAMS = {"sentiment": {"top_k": 2}, "summarization": {"max_new_tokens": 9}, "text-generation": {"seed": 3}}


def asked(router: str, name: str, **facts: Any) -> Asked:
    task = TASKS[name]
    given = {"item": task.examples()[-1], "params": PARAMS.get(name, {}), "files": {}, **facts}
    return Asked(Door(router, "127.0.0.1:9000"), name, task, **given)


def heard(house: House) -> tuple[Any, Any]:
    _, inputs, params = house.asked.pop()
    house.asked.clear()
    return inputs[0], params


def run(code: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return out.getvalue()


def shell(code: str, folder: Path) -> str:
    free = {**os.environ, "no_proxy": "127.0.0.1"}
    command = code.replace("curl ", "curl -sS --fail-with-body ")
    ran = subprocess.run(["bash", "-c", command], cwd=folder, env=free, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", list(TASKS))
def test_it_runs_as_shown(served: Any, house: House, name: str, tmp_path: Path) -> None:
    one = asked(served[1], name)
    meant = TASKS[name].input.model_validate(one.item), TASKS[name].params.model_validate(one.params)
    shell(calls.curl(one), tmp_path)
    assert heard(house) == meant
    run(calls.python(one))
    assert heard(house) == meant
    run(calls.inference_client(one))
    assert heard(house) == meant


@pytest.mark.parametrize("params", [{}, {"threshold": 0.3}])
def test_a_long_picture_is_read_from_its_file(
    served: Any, house: House, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = picture() + b"\0" * 2000
    (tmp_path / "it's my house.png").write_bytes(encoded)
    monkeypatch.chdir(tmp_path)
    name, files = "object-detection", {"image": "it's my house.png"}
    item = {"image": orjson.dumps(TASKS[name].input(image=encoded).model_dump(mode="json")).decode()}
    item = orjson.loads(item["image"])
    one = asked(served[1], name, item=item, files=files, params=params)
    told = calls.write(one)
    assert all(item["image"] not in code for code in told)
    for code, language in zip(told, calls.LANGUAGES, strict=True):
        if language == "Caikit gRPC":
            assert code.endswith("ObjectDetectionTaskPredict")
            continue
        shell(code, tmp_path) if calls.LANGUAGES[language] == "shell" else run(code)
        assert heard(house)[0].image == encoded


@pytest.mark.parametrize("name", list(TASKS))
def test_caikits_call_names_a_method_and_its_arguments(name: str) -> None:
    code = calls.grpcurl(asked("http://127.0.0.1:8000", name))
    rpc = code.rpartition(" ")[2]
    known = {f"{method.service}/{method.name}": method for method in known_methods()}
    given = orjson.loads(code.split(" -d '")[1].split("' \\\n")[0].replace("'\"'\"'", "'"))
    assert set(given) <= set(known[rpc].request.DESCRIPTOR.fields_by_name)
    assert f"mm-model-id: {name}" in code


def known_methods() -> list[Any]:
    from google.protobuf.descriptor_pool import DescriptorPool

    return methods(DescriptorPool())


def test_what_caikit_cannot_say_is_told() -> None:
    assert calls.grpcurl(asked("http://x", "sentiment")).startswith("# Caikit's call has no top_k\n")
