"""`python -m deployments`: what it leaves behind."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.__main__ import end_haproxy


@pytest.mark.skipif(sys.platform != "linux", reason="there is no HAProxy elsewhere")
def test_end_haproxy_stops_only_haproxy_of_the_session(tmp_path: Path) -> None:
    haproxy = tmp_path / "haproxy"
    shutil.copy(shutil.which("sleep") or "", haproxy)
    ours = subprocess.Popen(["sh", "-c", f"{haproxy} 60 & sleep 60 & wait"], start_new_session=True)
    others = subprocess.Popen([haproxy, "60"], start_new_session=True)
    session: list[psutil.Process] = []
    for _ in range(500):
        session = [process for process in psutil.process_iter() if _session(process) == ours.pid]
        if sorted(process.name() for process in session) == ["haproxy", "sh", "sleep"]:
            break
        time.sleep(0.01)
    try:
        left = [process for process in session if process.name() == "haproxy"]
        end_haproxy(ours.pid)
        gone, _ = psutil.wait_procs(left, timeout=10)
        assert (len(gone), len(left)) == (1, 1)
        assert others.poll() is None
        assert sum(process.is_running() for process in session) == 2
    finally:
        for process in session:
            if process.is_running():
                process.kill()
        others.kill()
        ours.wait()
        others.wait()


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0
