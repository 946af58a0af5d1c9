"""Serve's bookkeeping inside a replica's process."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import ray

from deployments.errors import InferenceError


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make `import module` fail inside this context: None in `sys.modules` stops an import."""
    absent = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


# Serve imports pandas if it is installed (gradio needs it), for responses that no model of Roster gives. That
# would cost 29 MiB in every replica, and a third of a second at its start.
with _hidden("pandas"):
    import ray.serve


def ongoing_requests() -> Callable[[str], AbstractAsyncContextManager[None]]:
    """Return a context manager for each request that reaches a replica without Serve, by the method's name.

    Serve then treats it like any request: it waits until fewer than `max_ongoing_requests` run, lets it end
    before the replica stops, and counts it in its metrics. A request that still waits is not counted.
    """
    from ray.serve._private.common import RequestMetadata

    worker = ray._private.worker.global_worker
    replica = worker.actors[worker.actor_id]._replica_impl
    start_request, record = replica._start_request, replica._metrics_manager.record_request_metrics

    @asynccontextmanager
    async def ongoing(method: str) -> AsyncIterator[None]:
        metadata = RequestMetadata(request_id="", internal_request_id="", call_method=method)
        async with start_request(metadata):
            begin, failure = time.perf_counter(), ""
            try:
                yield
            except InferenceError:  # a mistake of the caller, or the state of the model
                raise
            except BaseException as error:
                failure = type(error).__name__
                raise
            finally:
                record(
                    route="",
                    latency_ms=1000 * (time.perf_counter() - begin),
                    is_error=bool(failure),
                    exception_type=failure,
                )

    return ongoing
