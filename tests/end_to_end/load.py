"""A constant load from a background thread; it records which requests failed and when."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Load:
    """Post `body` to `url` `rate` times per second while the `with` block runs, and collect `failures`."""

    url: str
    body: dict[str, Any]
    rate: float = 20.0
    sent: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0

    def __enter__(self) -> "Load":
        self._stop = threading.Event()
        self._client = httpx.Client(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=100))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    @property
    def outage(self) -> float:
        """Seconds from the first failed request to the last."""
        return self.failures[-1][0] - self.failures[0][0] if self.failures else 0.0

    def __str__(self) -> str:
        problems = sorted({problem for _, problem in self.failures})
        failed = f"{len(self.failures)} of {self.sent} failed over {self.outage:.1f} s"
        return f"{failed}, slowest {self.slowest:.2f} s {problems}"

    def _run(self) -> None:
        with ThreadPoolExecutor(100) as pool:
            due = time.monotonic()
            while not self._stop.is_set():
                pool.submit(self._send)
                due += 1 / self.rate
                time.sleep(max(0.0, due - time.monotonic()))

    def _send(self) -> None:
        start = time.monotonic()
        self.sent += 1
        try:
            response = self._client.post(self.url, json=self.body)
            problem = (
                ""
                if response.status_code == httpx.codes.OK
                else f"{response.status_code} {response.text[:120]}"
            )
        except httpx.HTTPError as error:
            problem = type(error).__name__
        self.slowest = max(self.slowest, time.monotonic() - start)
        if problem:
            self.failures.append((start, problem))
