"""When a model that did not start is tried again: Serve gives up for good, and what was missing may come."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deployments.application import mark
from deployments.folders import Folder
from deployments.status import failure, has_failed

FIRST_S, LONGEST_S = 30.0, 600.0  # the first pause; each is twice as long as the one before


class Retries:
    """Says when a failed model's pause is over: by itself, or as soon as somebody touches its folder."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, float]] = {}  # by id: what its folder was like, and until when

    def due(self, folders: Mapping[str, Folder], apps: Mapping[str, dict[str, Any]]) -> list[Folder]:
        """The folders to deploy again although nothing of them has changed. Each tells what `failed`."""
        now = time.monotonic()
        failed = {id for id, folder in folders.items() if id in apps and _has_failed(folder, apps[id])}
        self._waiting = {
            id: self._waiting.get(id, (folders[id].seen, now + _pause(apps[id]))) for id in failed
        }
        due = [id for id, (seen, until) in self._waiting.items() if now > until or seen != folders[id].seen]
        for id in due:
            del self._waiting[id]
        return [replace(folders[id], failed=_told(apps[id])) for id in due]


def _has_failed(folder: Folder, app: dict[str, Any]) -> bool:
    """Whether what has failed is what the folder still asks for."""
    return has_failed(app) and app["status"] != "DELETING" and mark(app)["fingerprint"] == folder.fingerprint


def _tries(app: dict[str, Any]) -> int:
    failed = mark(app).get("failed")
    return int(failed["tries"]) if failed else 0


def _pause(app: dict[str, Any]) -> float:
    return min(FIRST_S * (1 << min(_tries(app), 9)), LONGEST_S)


def _told(app: dict[str, Any]) -> dict[str, Any]:
    return {"tries": _tries(app) + 1, "reason": failure(app)}
