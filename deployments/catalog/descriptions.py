"""What each loaded model says about itself."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.card import Description
from deployments.catalog.app_metadata import read_metadata
from deployments.catalog.model_status import count_running

log = logging.getLogger("ray.serve")

TIMEOUT_S = 10.0


class Descriptions:
    """Asks one replica of each model for its description, once per fingerprint."""

    def __init__(self) -> None:
        self._known: dict[str, Description] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def get(self, app: dict[str, Any]) -> Description | None:
        """Return the description of an application, if it has given one."""
        return self._known.get(read_metadata(app)["fingerprint"])

    def update(self, apps: Mapping[str, Any]) -> None:
        """Ask each model that has none yet; not while it rolls, when an older version could answer."""
        fingerprints = {id: read_metadata(app)["fingerprint"] for id, app in apps.items()}
        self._known = {key: self._known[key] for key in self._known.keys() & {*fingerprints.values()}}
        for id, key in fingerprints.items():
            pending = key in self._known or key in self._asking
            if not pending and apps[id]["status"] == ApplicationStatus.RUNNING and count_running(apps[id]):
                self._asking[key] = asyncio.get_running_loop().create_task(self._ask(id, key))

    async def _ask(self, id: str, key: str) -> None:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, id)
            self._known[key] = await asyncio.wait_for(handle.describe.remote(), TIMEOUT_S)
        except Exception as error:
            log.warning("model %s does not describe itself yet: %s", id, type(error).__name__)
            await asyncio.sleep(TIMEOUT_S)
        finally:
            del self._asking[key]
