"""When a model that did not start is tried again: Serve gives up for good, and what was missing may come."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ray.serve.schema import ApplicationStatus

from deployments.catalog.app_metadata import mark
from deployments.catalog.model_folders import Folder
from deployments.catalog.model_status import has_failed, is_starting
from deployments.catalog.serve_messages import message, reason_of

FIRST_S, LONGEST_S = 30.0, 600.0  # the first pause; each is twice as long as the one before


class _Waiting(NamedTuple):
    """What its folder was like and what Serve said when it failed, and until when it waits."""

    seen: str
    told: str
    until: float


class Retries:
    """Says when a failed model's pause is over: by itself, or as soon as somebody touches its folder."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def due(self, folders: Mapping[str, Folder], apps: Mapping[str, dict[str, Any]]) -> list[Folder]:
        """The folders to deploy again although nothing of them has changed. Each tells what `failed`."""
        now = time.monotonic()
        failed = {id for id, folder in folders.items() if id in apps and _has_failed(folder, apps[id])}
        self._waiting = {id: self._wait(folders[id], apps[id], now) for id in failed}
        due = [id for id, one in self._waiting.items() if now > one.until or one.seen != folders[id].seen]
        for id in due:
            del self._waiting[id]
        return [replace(folders[id], failed=_told(apps[id])) for id in due]

    def _wait(self, folder: Folder, app: dict[str, Any], now: float) -> _Waiting:
        before, told = self._waiting.get(folder.id), message(app)
        if before and before.told == told:
            return before
        return _Waiting(before.seen if before else folder.seen, told, now + _pause(app))


def _has_failed(folder: Folder, app: dict[str, Any]) -> bool:
    """Whether what has failed is what the folder still asks for."""
    if app["status"] == ApplicationStatus.DELETING or is_starting(app) or not has_failed(app):
        return False
    return bool(mark(app)["fingerprint"] == folder.fingerprint)


def _tries(app: dict[str, Any]) -> int:
    failed = mark(app).get("failed")
    return int(failed["tries"]) if failed else 0


def _pause(app: dict[str, Any]) -> float:
    # Where it has run before Serve itself goes on trying, of which the message counts the times.
    first = FIRST_S if app["status"] == ApplicationStatus.DEPLOY_FAILED else LONGEST_S
    return min(first * (1 << min(_tries(app), 9)), LONGEST_S)


def _told(app: dict[str, Any]) -> dict[str, Any]:
    return {"tries": _tries(app) + 1, "reason": reason_of(message(app))}
