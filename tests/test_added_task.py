"""One file makes a task: every face of the house has it, and no other file was touched."""

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

FACES = """
import json
from deployments.reference import task_table
from deployments.gateway.ingress import Door
from deployments.config.yaml_file import parse
from deployments.dialects import DIALECTS
from deployments.gateway.openapi import document
from deployments.gateway.grpc_service import rpcs
from deployments.task import TASKS

task = TASKS["language"]
document = document(DIALECTS)
assert len(task.examples()) == 2
assert "/models/{model_id}/pipeline/language" in document["paths"]
assert "/api/v1/task/language" in document["paths"]
assert "LanguageParams" in json.dumps(document["components"])
assert "LanguageTaskPredict" in {rpc.name for rpc in rpcs()}
assert callable(Door.LanguageTaskPredict)
assert "| language | Identify the language of a text. |" in task_table.text()
module = parse({"module_id": "2B6A1E0C-64C7-4B53-9C53-52B4D2A9B6C1"}, "config.yml").module()
assert module.task is task and module.default_model
"""


def test_a_tenth_task_is_one_file(tmp_path: Path) -> None:
    house = tmp_path / "deployments"
    shutil.copytree(ROOT / "deployments", house, ignore=shutil.ignore_patterns("__pycache__"))
    (house / "tasks" / "language.py").write_text(LANGUAGE)
    run = subprocess.run([sys.executable, "-c", FACES], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_stream_that_would_block_its_replica_is_refused(tmp_path: Path) -> None:
    house = tmp_path / "deployments"
    shutil.copytree(ROOT / "deployments", house, ignore=shutil.ignore_patterns("__pycache__"))
    counting = (ROOT / "tests" / "end_to_end" / "counting_task.py").read_text()
    (house / "tasks" / "counting.py").write_text(counting.replace("AsyncGenerator", "Generator"))
    command = [sys.executable, "-c", "import deployments.tasks"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "`Counting.stream` must return an AsyncGenerator" in run.stderr
