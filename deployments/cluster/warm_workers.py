"""Workers that have imported what a model needs, before any model asks for one.

What takes longest on a replica's way to its first answer is not the weights but starting a Python process
and importing torch and transformers. So one idle worker per node has done that already; Ray gives it to the
next replica that starts, and the Catalog asks for another.
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
"""What a replica's process has in its environment to be one of these."""


def preload() -> None:
    """Import what most models need. Called by Ray in a worker that has just started."""
    for module in MODULES:
        importlib.import_module(module)


class Spares:
    """Keeps `count` spare workers, with a replica's `runtime_env`, on each node that is there at first."""

    def __init__(self, count: int, runtime_env: dict[str, Any]) -> None:
        self._count, self._runtime_env = count, runtime_env
        self._seen: set[str] | None = None
        self._taken: Counter[str] = Counter()  # by node

    async def refill(self, replicas: Mapping[str, str]) -> None:
        """Make up for what the running `replicas` (ids and nodes) have taken, once no more of them come.

        The first time, fill every node.
        """
        if not self._count:
            return
        if self._seen is None:
            await self._ask(self._count, None)
        elif new := replicas.keys() - self._seen:
            self._taken.update(replicas[id] for id in new)
        else:
            taken, self._taken = self._taken, Counter()
            for node, many in taken.items():
                await self._ask(min(many, self._count), node)
        self._seen = set(replicas)

    async def _ask(self, count: int, node: str | None) -> None:
        try:
            await asyncio.to_thread(prestart_workers, count, self._runtime_env, KEEP_S, node)
        except Exception as error:
            log.warning("no spare workers: %s; new models start more slowly", type(error).__name__)
