"""One file makes a task: every face of the house has it, and no other file was touched."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

LANGUAGE = '''
"""Language: a text in, the language it is written in out."""

from pydantic import Field

from deployments.checkpoint import Checkpoint
from deployments.schema import Label, Schema, Text
from deployments.task import Module, task


class LanguageInput(Schema):
    text: Text = Field(description="The text to tell the language of.", examples=["Guten Tag", "Good day"])


class LanguageParams(Schema):
    top_k: int = Field(1, ge=1, le=100, description="How many languages to return.")


class LanguageOutput(Schema):
    labels: list[Label]


@task("language-detection")
class LanguageDetection(Module):
    """Tell the language of a text."""

    module_id = "2B6A1E0C-64C7-4B53-9C53-52B4D2A9B6C1"
    default_model = "papluca/xlm-roberta-base-language-detection"

    def load(self, checkpoint: Checkpoint) -> None:
        self.model = checkpoint

    def run(self, inputs: list[LanguageInput], params: LanguageParams) -> list[LanguageOutput]:
        known = {"Guten": "de", "Good": "en"}
        return [LanguageOutput(labels=[Label(label=known[i.text.split()[0]], score=1.0)]) for i in inputs]
'''

FACES = """
import json
from deployments import readme
from deployments.app import Door
from deployments.config import parse
from deployments.dialects import DIALECTS
from deployments.openapi import document
from deployments.rpc import rpcs
from deployments.task import find_task

task = find_task("language-detection")
document = document(DIALECTS)
assert len(task.examples()) == 2
assert "/models/{model_id}/pipeline/language-detection" in document["paths"]
assert "/api/v1/task/language-detection" in document["paths"]
assert "LanguageParams" in json.dumps(document["components"])
assert "LanguageDetectionTaskPredict" in {rpc.name for rpc in rpcs()}
assert callable(Door.LanguageDetectionTaskPredict)
assert "| language-detection | Tell the language of a text. |" in readme.table()
module = parse({"module_id": "2B6A1E0C-64C7-4B53-9C53-52B4D2A9B6C1"}, "config.yml").module()
outputs = module.run([task.input.model_validate(example) for example in task.examples()], task.params())
assert [output.labels[0].label for output in outputs] == ["de", "en"]
"""


def test_a_tenth_task_is_one_file(tmp_path: Path) -> None:
    house = tmp_path / "deployments"
    shutil.copytree(ROOT / "deployments", house, ignore=shutil.ignore_patterns("__pycache__"))
    (house / "tasks" / "language_detection.py").write_text(LANGUAGE)
    run = subprocess.run([sys.executable, "-c", FACES], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
