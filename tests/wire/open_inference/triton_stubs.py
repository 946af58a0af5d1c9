"""What Triton's clients bring and send: stubs that are their own, and tensors of a task's example."""

from functools import cache
from typing import Any
from unittest import mock

import orjson
from google.protobuf import descriptor_pool

from deployments.task import Task


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
