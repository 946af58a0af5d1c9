"""`python -m deployments` stops HAProxy processes that Serve leaves behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.__main__ import end_haproxy


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
