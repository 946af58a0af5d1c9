"""Run a server under test: start it as a user does, freeze it while another is measured, end it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import load, workload

START_S, END_S = 120.0, 60.0
CLIENT = httpx.Client(timeout=60, trust_env=False, verify=False)


class StartError(Exception):
    """A server did not start. The message has the last line of its log that names an error, or the last."""


class Server:
    """One command in a separate session, with all processes below it; `folder` gets its log."""

    stop_signal = signal.SIGTERM

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str] = {}) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        options: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "HF_HUB_OFFLINE": "1", **env}}
        with self._log.open("wb") as log:
            options |= {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._process = psutil.Popen(command, start_new_session=True, **options)

    def wait(self, is_ready: Callable[[], bool], state: str = "ready", poll_s: float = 0.1) -> None:
        """Wait until `is_ready`. Raises `StartError` when the process ends first or it takes too long."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(httpx.HTTPError):
                if is_ready():
                    return
            time.sleep(poll_s)
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = ([line for line in lines if "Error" in line] or lines or ["(empty)"])[-1].strip()[:300]
        raise StartError(f"not {state} within {START_S:g} s; the log ends: {last}")

    def wait_or_close(self, is_ready: Callable[[], bool]) -> None:
        """Wait until `is_ready`; end the server if it does not start."""
        try:
            self.wait(is_ready)
        except BaseException:
            self.close()
            raise

    def processes(self) -> list[psutil.Process]:
        """Return the process and all below it."""
        with suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes within the block, so that they take no processor time from another server."""
        processes = self.processes()
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def close(self) -> None:
        """Send one signal, wait at most a minute until all processes have ended, and kill those left."""
        processes = self.processes()
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
        with suppress(psutil.TimeoutExpired):
            self._process.wait(END_S)
        _, left = psutil.wait_procs(processes, timeout=2)
        # The session as well: Serve leaves an HAProxy on its ports when it ends during HAProxy's reload.
        _signal([*left, *filter(self._in_session, psutil.process_iter())], signal.SIGKILL)
        self._process.wait()

    def _in_session(self, process: psutil.Process) -> bool:
        with suppress(OSError):
            return os.getsid(process.pid) == self._process.pid
        return False


@dataclass(frozen=True)
class Endpoint:
    """A model on a running server, and the workload as requests; `read` parses a response's body."""

    server: Server
    url: str
    requests: list[bytes]
    read: Callable[[bytes], Any] = json.loads

    def run(self, clients: int, seconds: float) -> load.Run:
        return load.run(self.url, self.requests, clients, seconds)

    def responses(self, run: load.Run) -> dict[int, Any]:
        """Return the kept responses of a run, parsed, by their requests' index."""
        return {index: self.read(body) for index, body in run.responses.items()}


def endpoint(server: Server, url: str, kind: str, **options: Any) -> Endpoint:
    """Return an endpoint with requests in the Hugging Face dialect: texts and `options`, or images."""
    count = workload.COUNTS[kind]
    if kind == "images":
        requests = [load.post(url, image, "image/jpeg") for image in workload.photographs(count)]
    else:
        bodies = (json.dumps({"inputs": text, **options}).encode() for text in workload.texts(count))
        requests = [load.post(url, body) for body in bodies]
    return Endpoint(server, url, requests)


def responds(url: str, body: bytes) -> bool:
    """Return whether a server responds to this JSON with HTTP 200."""
    headers = {"content-type": "application/json"}
    return CLIENT.post(url, content=body, headers=headers).status_code == httpx.codes.OK


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
