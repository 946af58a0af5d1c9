"""How calls of a Router reach a model's replicas: the interface of `ReplicaSet` and `ServeHandle`."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any


class ReplicaTransport(ABC):
    """Calls one model's replicas, and waits until one can take the call: the caller sets a deadline.

    `requests` is the number of requests that have not ended. `module_id` is the module that calls need: while
    a model changes its module, replicas of both may run.
    """

    def __init__(self, model_id: str) -> None:
        self.requests = 0
        self.module_id: str | None = None
        self._model_id = model_id

    @abstractmethod
    async def call(self, method: str, *arguments: Any, num_inputs: int = 1, requests: int = 1) -> Any:
        """Return what a replica's method returns, for a call with so many inputs of so many requests.

        Raises the method's `InferenceError`, `Internal` for its other errors, `Overloaded`,
        `ConnectionError` if the replica dies, `ModelNotReady` or Serve's exceptions if there is none.
        Cancelling ends the work.
        """

    @abstractmethod
    def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """Yield the chunks that a replica's method yields. Raises as `call`. Closing ends the work."""

    @abstractmethod
    def report_queued(self, requests: int) -> None:
        """Report to Serve that so many requests wait elsewhere to be sent."""

    def modules(self) -> set[str]:
        """Return the modules of the replicas that run, as far as they are known."""
        return set()

    @abstractmethod
    def close(self) -> None:
        """Disconnect from the replicas once the last call has ended."""
