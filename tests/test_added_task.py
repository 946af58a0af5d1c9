"""One file adds a task: the task has its routes, rpcs, documents and configuration without another change."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LANGUAGE = next(
    block for block in re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL) if "@task(" in block
)

CHECKS = """
import json
from deployments.reference import task_table
from deployments.gateway.ingress import Ingress
from deployments.config.yaml_file import parse
from deployments.dialects import DIALECTS
from deployments.gateway.openapi import document
from deployments.gateway.grpc_service import all_rpcs
from deployments.task import TASKS

task = TASKS["language"]
document = document(DIALECTS)
assert len(task.examples()) == 2
assert "/models/{model_id}/pipeline/language" in document["paths"]
assert "/api/v1/task/language" in document["paths"]
assert "LanguageParams" in json.dumps(document["components"])
assert "LanguageTaskPredict" in {rpc.name for rpc in all_rpcs()}
assert callable(Ingress.LanguageTaskPredict)
assert "| language | Identify the language of a text. |" in task_table.text()
module = parse({"module_id": "2B6A1E0C-64C7-4B53-9C53-52B4D2A9B6C1"}, "config.yml").module()
assert module.task is task and module.default_model
"""


def test_task_file_adds_routes_rpcs_and_configuration(tmp_path: Path) -> None:
    package = tmp_path / "deployments"
    shutil.copytree(ROOT / "deployments", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "tasks" / "language.py").write_text(LANGUAGE)
    run = subprocess.run([sys.executable, "-c", CHECKS], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_task_with_synchronous_stream_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "deployments"
    shutil.copytree(ROOT / "deployments", package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (ROOT / "tests" / "end_to_end" / "counting_task.py").read_text()
    (package / "tasks" / "counting.py").write_text(source.replace("AsyncGenerator", "Generator"))
    command = [sys.executable, "-c", "import deployments.tasks"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "`Counting.stream` must return an AsyncGenerator" in run.stderr
