"""The door as clients of the Open Inference Protocol find it: a real port, and stubs that are their own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import orjson
import uvicorn
from google.protobuf import descriptor_pool

from deployments.dialects.open_inference import dialect
from deployments.gateway import http_app as web
from deployments.task import Task
from tests.fake_router import FakeRouter


@contextmanager
def http_door(router: FakeRouter) -> Iterator[str]:
    """The address (host:port) of a server for `router`, on a thread of its own."""
    config = uvicorn.Config(web.build(router, [dialect]), port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@cache
def triton() -> Any:
    """`tritonclient.grpc`, and the pool of its stubs: its own, for our messages have the same names."""
    pool = descriptor_pool.DescriptorPool()
    with mock.patch.object(descriptor_pool, "Default", return_value=pool):
        import tritonclient.grpc as client
        import tritonclient.grpc.aio  # noqa: F401 - an attribute of `client`
    return client, pool


def cells(task: Task) -> dict[str, bytes]:
    """The task's first example, a BYTES element per field: lists are JSON."""
    given = task.examples()[0]
    return {name: (v.encode() if isinstance(v, str) else orjson.dumps(v)) for name, v in given.items()}
