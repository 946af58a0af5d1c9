"""Triton's client stubs, and the elements of a task's example."""

from functools import cache
from typing import Any
from unittest import mock

import orjson
from google.protobuf import descriptor_pool

from deployments.task import Task


@cache
def load_stubs() -> Any:
    """Return `tritonclient.grpc` and the pool of its stubs.

    The pool is separate because Roster's messages have the same names.
    """
    pool = descriptor_pool.DescriptorPool()
    with mock.patch.object(descriptor_pool, "Default", return_value=pool):
        import tritonclient.grpc as client
        import tritonclient.grpc.aio  # noqa: F401 - an attribute of `client`
    return client, pool


def example_elements(task: Task) -> dict[str, bytes]:
    """Return the BYTES element of each field of the task's first example; lists are JSON."""
    fields = task.examples()[0]
    return {name: (v.encode() if isinstance(v, str) else orjson.dumps(v)) for name, v in fields.items()}
