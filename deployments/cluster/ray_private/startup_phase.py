"""What a replica does while it starts, in Ray's key-value store: its constructor runs, so it answers no call.

An application has one entry, which its next replica overwrites: nothing has to be removed.
"""

import json
import logging
from typing import Any

import ray
from ray import serve

log = logging.getLogger(__name__)

NAMESPACE = b"roster_startup_phase"


def publish_phase(phase: str) -> None:
    """Publish the phase of the replica in whose process this is called; outside of a cluster do nothing."""
    if not ray.is_initialized():
        return
    try:
        context = serve.get_replica_context()
        entry = {"replica": context.replica_id.unique_id, "phase": phase}
        _store()._internal_kv_put(context.app_name, json.dumps(entry), namespace=NAMESPACE)
    except Exception:  # a model is worth more than the report that it starts
        log.warning("the phase %r is not published", phase, exc_info=True)


def read_phase(application: str, replicas: set[str]) -> str:
    """Return the last phase that one of these replicas of an application has published; else nothing."""
    if not ray.is_initialized():
        return ""
    value = _store()._internal_kv_get(application, namespace=NAMESPACE)
    entry = json.loads(value) if value else {}
    return str(entry["phase"]) if entry.get("replica") in replicas else ""


def _store() -> Any:
    from ray.experimental import internal_kv

    return internal_kv
