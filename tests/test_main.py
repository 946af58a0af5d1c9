"""`python -m deployments` checks its config, and stops HAProxy processes that Serve leaves behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.__main__ import end_haproxy, gateway_url
from deployments.config.errors import ConfigError


@pytest.mark.skipif(sys.platform != "linux", reason="Ray Serve uses HAProxy on Linux only")
def test_end_haproxy_stops_only_haproxy_of_the_session(tmp_path: Path) -> None:
    haproxy = tmp_path / "haproxy"
    shutil.copy(shutil.which("sleep") or "", haproxy)
    serve = subprocess.Popen(["sh", "-c", f"{haproxy} 60 & sleep 60 & wait"], start_new_session=True)
    other_haproxy = subprocess.Popen([haproxy, "60"], start_new_session=True)
    session: list[psutil.Process] = []
    for _ in range(500):
        session = [process for process in psutil.process_iter() if _session(process) == serve.pid]
        if sorted(process.name() for process in session) == ["haproxy", "sh", "sleep"]:
            break
        time.sleep(0.01)
    try:
        targets = [process for process in session if process.name() == "haproxy"]
        end_haproxy(serve.pid)
        stopped, _ = psutil.wait_procs(targets, timeout=10)
        assert (len(stopped), len(targets)) == (1, 1)
        assert other_haproxy.poll() is None
        assert sum(process.is_running() for process in session) == 2
    finally:
        for process in session:
            if process.is_running():
                process.kill()
        other_haproxy.kill()
        serve.wait()
        other_haproxy.wait()


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("http_options: {port: 8123}", "http://localhost:8123"), ("applications: []", "http://localhost:8000")],
)
def test_gateway_url_has_the_port_of_the_serve_config(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "serve.yaml").write_text(text)
    assert gateway_url(tmp_path / "serve.yaml") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "http_options:\n  port: 1\n  port: 2\n",
            r"^serve\.yaml: line 3, column 3: the key `port` is there twice",
        ),
        ("[", r"^serve\.yaml: line 1, column 2: "),
        ("- a", r"^serve\.yaml: must be a mapping"),
    ],
)
def test_broken_serve_config_is_refused_before_serve_starts(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "serve.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        gateway_url(tmp_path / "serve.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        gateway_url(tmp_path / "absent.yaml")
