"""How much of a request's texts the model has read, for the gateway to report to the client."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deployments.results import Usage

HEADER = "x-roster-truncated"
"""The header, or gRPC metadata, of a response to truncated texts: tokens read, "/", tokens given."""


@dataclass
class Truncation:
    """The tokens of a request, with those that were cut off."""

    read: int = 0
    cut: int = 0

    @property
    def header(self) -> dict[str, str]:
        """The header that reports the truncation; none if all was read."""
        return {HEADER: f"{self.read}/{self.read + self.cut}"} if self.cut else {}


_of_this_request: ContextVar[Truncation | None] = ContextVar("truncation", default=None)


@contextmanager
def observe_truncation() -> Iterator[Truncation]:
    """Collect the truncation of all calls inside the context, also of tasks that it starts."""
    truncation = Truncation()
    token = _of_this_request.set(truncation)
    try:
        yield truncation
    finally:
        _of_this_request.reset(token)


def record_truncation(usage: Usage) -> None:
    """Add the usage of one call to the request in whose context it runs."""
    if (truncation := _of_this_request.get()) is not None:
        truncation.read += sum(usage.costs)
        truncation.cut += sum(usage.truncated)
