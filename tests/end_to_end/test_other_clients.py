"""Clients that need other versions than Roster, in separate environments that `make test` creates."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.cluster import ROOT, Cluster, in_modes
from tests.end_to_end.test_requests import NEGATIVE, NEWS, POSITIVE, PROMPT, QUERY, QUESTION, example_image

pytestmark = [pytest.mark.cluster, in_modes("fast", "slow")]


CLIENTS = ROOT / ".venv" / "clients"


def run(environment: str, script: str, *arguments: str) -> str:
    python = CLIENTS / environment / "bin" / "python"
    return _output(str(python), str(ROOT / "tests" / "clients" / script), *arguments)


def _output(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def test_kserve_client(cluster: Cluster) -> None:
    run("kserve", "with_kserve.py", cluster.url, cluster.grpc_address, POSITIVE, NEGATIVE)


def test_mlserver_codecs(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(example_image())
    run(
        "mlserver",
        "with_mlserver.py",
        cluster.url,
        cluster.grpc_address,
        POSITIVE,
        NEGATIVE,
        str(tmp_path / "image"),
    )


def test_hugging_face_javascript_client(cluster: Cluster, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(example_image())
    script = CLIENTS / "javascript" / "with_huggingface.mjs"  # beside its node_modules
    shutil.copy(ROOT / "tests" / "clients" / script.name, script)
    node = str(Path(sys.executable).with_name("node"))
    _output(node, str(script), cluster.url, POSITIVE, NEWS, PROMPT, QUESTION, str(image))


@pytest.mark.parametrize("path", ["/models/embeddings", "/models/embeddings/embed", "/embed", "/"])
def test_langchain_tei_embeddings(cluster: Cluster, path: str) -> None:
    vector = json.loads(run("kserve", "with_langchain.py", cluster.url + path, QUERY).splitlines()[-1])
    (expected,) = cluster.http.post("/models/embeddings/embed", json={"inputs": QUERY}).json()
    assert vector == pytest.approx(expected, abs=1e-6)
