"""The connection to the Hub: load from the cache alone if no server answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread

from deployments.engines.load_failures import first_line
from deployments.errors import ModelNotReady

# The Hub's client waits 10 s for a connection, and tries again for a minute.
ANSWER_S = 3.0
REMEDY = "check the network, or set HF_ENDPOINT, or HF_HUB_OFFLINE=1 with a filled cache"


def may_download(name: str) -> bool:
    """Return whether a checkpoint's files may come from the Hub: the name of a model, and not offline."""
    from huggingface_hub import hf_hub_url, is_offline_mode
    from huggingface_hub.errors import HFValidationError

    if os.path.isdir(name) or is_offline_mode():
        return False
    try:
        hf_hub_url(name, "config.json")
    except HFValidationError:
        return False
    return True


@contextmanager
def hub_or_cache(name: str, revision: str | None) -> Iterator[None]:
    """Use the cache alone inside this context if the Hub cannot be reached.

    Raises `ModelNotReady` within five seconds if the checkpoint is in neither.
    """
    problem = _problem(name, revision) if may_download(name) else ""
    if not problem:
        yield
        return
    if not _is_cached(name, revision):
        raise ModelNotReady(f"{name!r} is not in this machine's cache; {problem}")
    with _offline():
        try:
            yield
        except ModelNotReady as error:  # the cache may hold a part of the checkpoint
            raise ModelNotReady(f"{error}; only this machine's cache was read: {problem}") from error


def _problem(name: str, revision: str | None) -> str:
    """Return why the Hub cannot be reached; empty if a server answers, whatever it answers."""
    from huggingface_hub import constants, hf_hub_url

    url = hf_hub_url(name, "config.json", revision=revision, endpoint=constants.ENDPOINT)
    answer: SimpleQueue[str] = SimpleQueue()
    # In a thread, because a timeout of the client does not include the resolution of the name.
    Thread(target=lambda: answer.put(_request(url)), daemon=True).start()
    try:
        reason = answer.get(timeout=ANSWER_S)
    except Empty:
        reason = f"no answer within {ANSWER_S:g} s"
    return reason and f"the Hub ({constants.ENDPOINT}) cannot be reached: {reason}; {REMEDY}"


def _request(url: str) -> str:
    from huggingface_hub import get_session

    try:
        get_session().head(url, timeout=2 * ANSWER_S, follow_redirects=False)
    except Exception as error:
        return first_line(error)
    return ""


def _is_cached(name: str, revision: str | None) -> bool:
    """Return whether the cache has a part of the checkpoint, which may be all that loading needs."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        snapshot_download(name, revision=revision, local_files_only=True)
    except IncompleteSnapshotError:
        return True
    except LocalEntryNotFoundError:
        return False
    return True


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the Hub's client, and the processes that an engine starts, from the network."""
    from huggingface_hub import constants

    before, variable = constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE")
    constants.HF_HUB_OFFLINE, os.environ["HF_HUB_OFFLINE"] = True, "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        os.environ.pop("HF_HUB_OFFLINE")
        if variable is not None:
            os.environ["HF_HUB_OFFLINE"] = variable
