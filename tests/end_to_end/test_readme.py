"""The calls in the README and in docs/calls.md run, and print the output that the page shows."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

from tests.end_to_end.cluster import ROOT, Cluster, in_modes

pytestmark = [pytest.mark.cluster, in_modes("fast")]

CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documented_calls(page: str) -> list[tuple[str, str, str]]:
    """Return language, code and shown output of each call in a page."""
    blocks = CODE_BLOCK.findall((ROOT / page).read_text())
    return [
        (language, code, output)
        for (language, code), (output_type, output) in pairwise(blocks)
        if language in ("bash", "python") and output_type in ("json", "text")
    ]


README_CALLS, CALLS_PAGE = documented_calls("README.md"), documented_calls("docs/calls.md")


def run(language: str, code: str, cluster: Cluster) -> str:
    """Run a block against this cluster instead of the one on the default ports."""
    code = code.replace("http://localhost:8000", cluster.url).replace("localhost:9000", cluster.grpc_address)
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-c", code]
    env = {**os.environ, "NO_PROXY": "*"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert result.returncode == 0, result.stderr
    return result.stdout


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {name: rounded(item) for name, item in value.items()} if isinstance(value, dict) else value


def test_pages_show_calls_of_each_client(cluster: Cluster) -> None:
    assert [language for language, _, _ in README_CALLS] == ["bash", "python", "python"]
    assert [language for language, _, _ in CALLS_PAGE] == ["python"]


@pytest.mark.parametrize(
    ("language", "code", "output"),
    README_CALLS + CALLS_PAGE,
    ids=["curl", "InferenceClient", "OpenAI", "gRPC"],
)
def test_documented_call_prints_documented_output(
    cluster: Cluster, language: str, code: str, output: str
) -> None:
    printed = run(language, code, cluster)
    if language == "bash":
        assert rounded(json.loads(printed)) == rounded(json.loads(output))
    else:
        assert printed.strip() == output.strip()
