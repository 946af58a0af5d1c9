"""Polls the models folder: for each folder in it a configuration, or the reason why there is none."""

import hashlib
import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from deployments.catalog.app_metadata import fingerprint
from deployments.config.errors import ConfigError
from deployments.config.model_config import ModelConfig
from deployments.config.yaml_file import CONFIG, read

log = logging.getLogger("ray.serve")

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
UNLOADED = ".unloaded"  # a file of this name in a model's folder keeps the model from being served
NOT_LOADED = frozenset({CONFIG, "README.md", UNLOADED})  # an edit of these does not change what is loaded


@dataclass(frozen=True)
class ModelFolder:
    """One folder of a model: its `config`, or the `problem` with it.

    `files` is a signature of the checkpoint in the folder, `fingerprint` one of all that the application is
    built from. `mtime_signature` changes with every edit and touch. `unloaded`: it has the marker file.
    `failed` counts the failed attempts of this deployment, with the last reason; `previous` is what serves
    until the deployment does, if that has another module.
    """

    id: str
    path: Path
    config: ModelConfig | None
    problem: str = ""
    files: str = ""
    fingerprint: str = ""
    unloaded: bool = False
    mtime_signature: str = ""
    failed: dict[str, Any] | None = None
    previous: dict[str, Any] | None = None


class ModelFolderWatcher:
    """Reads the models folder repeatedly; parses only the folders that have changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, tuple[str, ModelFolder]] = {}
        self._last_seen: dict[str, str] = {}
        self._disk: tuple[int, int] | None = None
        self.is_there = False

    def scan(self) -> dict[str, ModelFolder]:
        """Read every model's folder, by model id. A folder that is being written keeps its last state.

        When the models folder itself is missing, `is_there` is False, and all folders keep their last state.
        """
        self.is_there = self._find_root()
        if not self.is_there:
            return self.known()
        seen = {path.name: _signature(path) for path in self._paths()}
        self._known = {id: known for id, known in self._known.items() if id in seen}
        for id, signature in seen.items():
            settled = self._last_seen.get(id) == signature
            if settled and self._known.get(id, ("",))[0] != signature:
                self._known[id] = signature, replace(_read(self.root / id), mtime_signature=signature)
        self._last_seen = seen
        return self.known()

    def _find_root(self) -> bool:
        """Return whether the models folder is there. An unmounted file system leaves an empty folder."""
        try:
            stat = self.root.stat()
            disk, empty = (stat.st_dev, stat.st_ino), not any(self.root.iterdir())
        except OSError:
            return False
        if empty and self._known and self._disk not in (None, disk):
            return False
        self._disk = disk
        return True

    def known(self) -> dict[str, ModelFolder]:
        """Return the folders of the last scan, by model id."""
        return {folder.id: folder for _, folder in self._known.values()}

    def _paths(self) -> list[Path]:
        return [
            path for path in self.root.iterdir() if not path.name.startswith(".") and _may_be_folder(path)
        ]


def _may_be_folder(path: Path) -> bool:
    try:
        return S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a link to a folder without permission: it is listed, with the reason


def name_conflicts(folders: dict[str, ModelFolder], others: set[str]) -> dict[str, ModelFolder]:
    """Return the folders whose names `others` have taken already, each with this as its problem."""
    problem = "another application has this name already; rename the folder"
    return {id: ModelFolder(id, folders[id].path, None, problem) for id in folders.keys() & others}


def _read(path: Path) -> ModelFolder:
    if not MODEL_ID.fullmatch(path.name):
        # A name may hold bytes that are not UTF-8.
        name = os.fsencode(path.name).decode(errors="replace")
        return ModelFolder(
            name, path, None, f"{name!r} is no model id; use letters, digits, `.`, `_` and `-` only"
        )
    if os.path.exists(path / UNLOADED):  # `Path.exists` raises without permission
        problem = f"it is unloaded; load it, or remove {path.name}/{UNLOADED}"
        return ModelFolder(path.name, path, None, problem, unloaded=True)
    try:
        config = read(path)
        files = _signature(path, NOT_LOADED)
        return ModelFolder(path.name, path, config, "", files, fingerprint(config, path, files))
    except ConfigError as error:
        problem = str(error)
    except Exception as error:
        # One faulty folder must not affect the others.
        log.exception("%s cannot be read", path)
        problem = f"{path.name}/{CONFIG}: cannot be read ({type(error).__name__})"
    return ModelFolder(path.name, path, None, problem)


def _signature(folder: Path, without: frozenset[str] = frozenset()) -> str:
    digest = hashlib.sha256()
    for directory, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        if os.path.islink(directory) and Path(directory) != folder:
            # `ln -sfn` changes the target of a link. Folders below it could be large, or link back.
            digest.update(os.fsencode(os.path.realpath(directory)))
            names.clear()
        left_out = without if Path(directory) == folder else frozenset()
        for name in sorted(name for name in files if name not in left_out and not _is_scratch(name)):
            digest.update(_stat(Path(directory, name)))
    return digest.hexdigest()


def _is_scratch(name: str) -> bool:
    """Return whether a file is a leftover of an editor or a desktop."""
    return name != UNLOADED and (name.startswith(".") or name.endswith("~"))


def _stat(file: Path) -> bytes:
    try:
        stat = file.stat()
        facts = f" {stat.st_size} {stat.st_mtime_ns}"
    except OSError as error:
        facts = f" {error.errno}"
    return os.fsencode(file) + facts.encode()
