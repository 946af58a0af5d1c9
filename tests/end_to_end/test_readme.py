"""The README's calls are run, and their answers are the ones that it shows."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.end_to_end.conftest import ROOT, Cluster, in_lanes

pytestmark = [pytest.mark.cluster, in_lanes("fast")]

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALLS = [
    (called, code, shown)
    for (called, code), (kind, shown) in zip(BLOCK.findall(README), BLOCK.findall(README)[1:], strict=False)
    if kind in ("json", "text") and called in ("bash", "python")
]


def run(language: str, code: str, cluster: Cluster) -> str:
    """Run a block against this cluster instead of the one on the usual ports."""
    code = code.replace("http://localhost:8000", cluster.url).replace("localhost:9000", cluster.grpc_address)
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-c", code]
    env = {**os.environ, "NO_PROXY": "*"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return {name: rounded(one) for name, one in value.items()} if isinstance(value, dict) else value


def test_there_are_four_calls(cluster: Cluster) -> None:
    assert [language for language, _, _ in CALLS] == ["bash", "python", "python", "python"]


@pytest.mark.parametrize(
    ("language", "code", "shown"), CALLS, ids=["curl", "InferenceClient", "OpenAI", "gRPC"]
)
def test_a_call_answers_what_the_readme_shows(cluster: Cluster, language: str, code: str, shown: str) -> None:
    said = run(language, code, cluster)
    if language == "bash":
        assert rounded(json.loads(said)) == rounded(json.loads(shown))
    else:
        assert said.strip() == shown.strip()
