"""Workers that have imported what a model needs, before any model asks for one.

What takes longest on a replica's way to its first answer is not the weights but starting a Python process
and importing torch and transformers. So one idle worker per node has done that already; Ray gives it to the
next replica that starts, and the Catalog asks for another.
"""

import asyncio
import importlib
import logging
from typing import Any

from deployments.ray_private import HOOK, prestart_workers

log = logging.getLogger("ray.serve")

KEEP_S = 30 * 24 * 3600
MODULES = (
    "deployments.replica",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.image_processing_auto",
    "transformers.generation.utils",
)
ENVIRONMENT = {HOOK: "deployments.warm.preload"}
"""What a replica's process has in its environment to be one of these."""


def preload() -> None:
    """Import what most models need. Called by Ray in a worker that has just started."""
    for module in MODULES:
        importlib.import_module(module)


class Spares:
    """Keeps `count` spare workers on every node, with a replica's `runtime_env`; none if `count` is 0."""

    def __init__(self, count: int, runtime_env: dict[str, Any]) -> None:
        self._count, self._runtime_env = count, runtime_env
        self._seen: int | None = None

    async def refill(self, replicas: int) -> None:
        """Ask for as many workers as replicas have come since the last look; at the first, for `count`."""
        wanted = self._count if self._seen is None else min(replicas - self._seen, self._count)
        self._seen = replicas
        if wanted <= 0:
            return
        try:
            await asyncio.to_thread(prestart_workers, wanted, self._runtime_env, KEEP_S)
        except Exception as error:
            log.warning("no spare workers: %s; new models start more slowly", type(error).__name__)
            self._count = 0
