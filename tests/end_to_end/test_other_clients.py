"""Clients that need other versions than Roster, in separate environments that `make test` creates."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT, Cluster, in_modes
from tests.end_to_end.test_requests import NEGATIVE, POSITIVE, QUERY, example_image

pytestmark = [pytest.mark.cluster, in_modes("fast", "slow")]


def run(environment: str, script: str, *arguments: str) -> str:
    python = ROOT / ".venv" / "clients" / environment / "bin" / "python"
    command = [str(python), str(ROOT / "tests" / "clients" / script), *arguments]
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


@pytest.mark.parametrize("path", ["/models/embeddings", "/models/embeddings/embed", "/embed", "/"])
def test_langchain_tei_embeddings(cluster: Cluster, path: str) -> None:
    vector = json.loads(run("kserve", "with_langchain.py", cluster.url + path, QUERY).splitlines()[-1])
    (expected,) = cluster.http.post("/models/embeddings/embed", json={"inputs": QUERY}).json()
    assert vector == pytest.approx(expected, abs=1e-6)
