"""Serve's bookkeeping inside a replica's process."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import ray

from deployments.errors import InferenceError


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """For whoever asks meanwhile, a module is not installed: None in its place stops an import."""
    absent = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


# Serve imports pandas where gradio has brought it, for answers that no model of ours gives: 29 MiB in every
# replica, and a third of a second of its start.
with _absent("pandas"):
    import ray.serve


def ongoing_requests() -> Callable[[str], AbstractAsyncContextManager[None]]:
    """In a replica's process: what to enter for each request that comes past Serve, with the method's name.

    Serve then counts it as one of its own: waits with it until fewer than `max_ongoing_requests` are there,
    lets it end before the replica stops, and shows it in its metrics. One that still waits is not counted.
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
            except InferenceError:  # the caller's mistake, or news of the model
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
