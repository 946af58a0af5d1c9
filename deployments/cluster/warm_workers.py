"""Idle worker processes that have imported torch and transformers before a replica needs them.

Starting a Python process and importing torch and transformers takes longer than loading the weights of a
small model. Ray gives the next replica a warm worker of its node, and the Catalog starts another one.
"""

import asyncio
import importlib
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from deployments.cluster.ray_private.workers import HOOK, prestart_workers

log = logging.getLogger("ray.serve")

KEEP_S = 30 * 24 * 3600
MODULES = (
    "deployments.replica.model_replica",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.image_processing_auto",
    "transformers.generation.utils",
)
ENVIRONMENT = {HOOK: "deployments.cluster.warm_workers.preload"}
"""The variable with which Ray gives a replica one of these workers."""


def preload() -> None:
    """Import what most models need. Ray calls this in a worker that has just started."""
    for module in MODULES:
        importlib.import_module(module)


class WarmWorkerPool:
    """Keeps `count` warm workers, with a replica's `runtime_env`, on each node of the cluster's start."""

    def __init__(self, count: int, runtime_env: dict[str, Any]) -> None:
        self._count, self._runtime_env = count, runtime_env
        self._seen: set[str] | None = None
        self._taken: Counter[str] = Counter()  # by node

    async def refill(self, replicas: Mapping[str, str]) -> None:
        """Replace the workers that the running `replicas` (ids and nodes) have taken, once no new ones start.

        The first call fills every node.
        """
        if not self._count:
            return
        if self._seen is None:
            await self._prestart(self._count, None)
        elif new := replicas.keys() - self._seen:
            self._taken.update(replicas[id] for id in new)
        else:
            taken, self._taken = self._taken, Counter()
            for node, many in taken.items():
                await self._prestart(min(many, self._count), node)
        self._seen = set(replicas)

    async def _prestart(self, count: int, node: str | None) -> None:
        try:
            await asyncio.to_thread(prestart_workers, count, self._runtime_env, KEEP_S, node)
        except Exception as error:
            log.warning("no warm workers: %s; new replicas start more slowly", type(error).__name__)
