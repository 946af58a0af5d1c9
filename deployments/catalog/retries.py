"""Decides when a model that failed to start is deployed again: Serve itself gives up for good."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ray.serve.schema import ApplicationStatus

from deployments.catalog.app_metadata import read_metadata
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.model_status import has_failed, is_starting
from deployments.catalog.serve_messages import message, reason_of

FIRST_S, LONGEST_S = 30.0, 600.0  # the first pause; each is twice as long as the one before


class _Pause(NamedTuple):
    """A failed model: its folder's signature and Serve's message when it failed, and the end of its pause."""

    mtime_signature: str
    message: str
    until: float


class Retries:
    """Keeps the pauses of failed models. A touch of a model's folder ends its pause early."""

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}

    def due(
        self, folders: Mapping[str, ModelFolder], apps: Mapping[str, dict[str, Any]]
    ) -> list[ModelFolder]:
        """Return the unchanged folders to deploy again; `failed` counts the attempts of each."""
        now = time.monotonic()
        failed = {id for id, folder in folders.items() if id in apps and _has_failed(folder, apps[id])}
        self._pauses = {id: self._wait(folders[id], apps[id], now) for id in failed}
        due = [
            id
            for id, one in self._pauses.items()
            if now > one.until or one.mtime_signature != folders[id].mtime_signature
        ]
        for id in due:
            del self._pauses[id]
        return [replace(folders[id], failed=_failure(apps[id])) for id in due]

    def _wait(self, folder: ModelFolder, app: dict[str, Any], now: float) -> _Pause:
        before, current = self._pauses.get(folder.id), message(app)
        if before and before.message == current:  # the message counts the attempts
            return before
        return _Pause(
            before.mtime_signature if before else folder.mtime_signature, current, now + _pause(app)
        )


def _has_failed(folder: ModelFolder, app: dict[str, Any]) -> bool:
    """Return whether an application has failed and its folder has not changed since."""
    if app["status"] == ApplicationStatus.DELETING or is_starting(app) or not has_failed(app):
        return False
    return bool(read_metadata(app)["fingerprint"] == folder.fingerprint)


def _tries(app: dict[str, Any]) -> int:
    failed = read_metadata(app).get("failed")
    return int(failed["tries"]) if failed else 0


def _pause(app: dict[str, Any]) -> float:
    # Serve itself retries a model that has run before; this pause starts again with each of its attempts.
    first = FIRST_S if app["status"] == ApplicationStatus.DEPLOY_FAILED else LONGEST_S
    return min(first * (1 << min(_tries(app), 9)), LONGEST_S)


def _failure(app: dict[str, Any]) -> dict[str, Any]:
    return {"tries": _tries(app) + 1, "reason": reason_of(message(app))}
