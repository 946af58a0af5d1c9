"""A server under test: started as a user starts it, frozen while another is measured, ended whole."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

START_S = 120.0
END_S = 60.0
POLL_S = 0.1
CLIENT = httpx.Client(timeout=60, trust_env=False, verify=False)


class StartError(Exception):
    """A server did not come up; the last line of what it said, if it can be, one that tells an error."""


class Server:
    """One command in a session of its own, with everything below it."""

    def __init__(
        self, command: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self, is_ready: Callable[[], bool], seconds: float = START_S) -> None:
        """Until `is_ready`. Raises `StartError` when the process ends before, or takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if is_ready():
                    return
            time.sleep(POLL_S)
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line]
        raise StartError((errors or lines or ["it said nothing"])[-1].strip()[:300])

    def processes(self) -> list[psutil.Process]:
        """The process and all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        return []

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While another is measured: what waits takes no processor time from it."""
        processes = self.processes()
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def close(self, number: int = signal.SIGTERM) -> None:
        """Ask it once to end and wait until all of it has; what is left after a minute is killed."""
        processes = self.processes()
        if self._process.poll() is None:
            self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        _, left = psutil.wait_procs(processes, timeout=2)
        # What came after we looked: Serve leaves an HAProxy on its ports when it ends while that is reloaded.
        _signal([*left, *_session(self._process.pid)], signal.SIGKILL)
        self._process.wait()


def answers(url: str, body: bytes) -> bool:
    """Whether a server answers this JSON with HTTP 200."""
    told = CLIENT.post(url, content=body, headers={"content-type": "application/json"})
    return told.status_code == httpx.codes.OK


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextmanager
def frozen(servers: Iterable[Server]) -> Iterator[None]:
    """All of these servers at rest."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server.frozen())
        yield
