"""The models folder as it stands: per folder a config, or why not. Polled, so any file system will do."""

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
class Folder:
    """One folder: its `config`, or the `problem` with it. `files` is a signature of the checkpoint beside it;
    `fingerprint` one of all that the application is made from; `unloaded` asks that nothing be served.
    `seen` changes with every edit, even one that changes nothing; `failed` is what came of it before."""

    id: str
    path: Path
    config: ModelConfig | None
    problem: str = ""
    files: str = ""
    fingerprint: str = ""
    unloaded: bool = False
    seen: str = ""
    failed: dict[str, Any] | None = None


class Folders:
    """Reads the models folder again and again; only what has changed is parsed again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, tuple[str, Folder]] = {}
        self._last_seen: dict[str, str] = {}
        self._disk: tuple[int, int] | None = None
        self.is_there = False

    def scan(self) -> dict[str, Folder]:
        """Every model's folder by its id. One still being written is as it was before, or not there.

        When the models folder itself is away, `is_there` is False and all is as it was before.
        """
        self.is_there = self._look()
        if not self.is_there:
            return self.known()
        seen = {path.name: _signature(path) for path in self._paths()}
        self._known = {id: known for id, known in self._known.items() if id in seen}
        for id, signature in seen.items():
            settled = self._last_seen.get(id) == signature
            if settled and self._known.get(id, ("",))[0] != signature:
                self._known[id] = signature, replace(_read(self.root / id), seen=signature)
        self._last_seen = seen
        return self.known()

    def _look(self) -> bool:
        """Whether the models folder is there. Where a mount has gone, another, empty folder is left."""
        try:
            stat = self.root.stat()
            disk, empty = (stat.st_dev, stat.st_ino), not any(self.root.iterdir())
        except OSError:
            return False
        if empty and self._known and self._disk not in (None, disk):
            return False
        self._disk = disk
        return True

    def known(self) -> dict[str, Folder]:
        """What the last scan has found."""
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
        return True  # a link to where we may not look: it is listed, with the reason


def taken(folders: dict[str, Folder], others: set[str]) -> dict[str, Folder]:
    """Why not, of each folder whose name one of the `others` has already."""
    problem = "an application of this name is running already that is not from here; rename the folder"
    return {id: Folder(id, folders[id].path, None, problem) for id in folders.keys() & others}


def _read(path: Path) -> Folder:
    if not MODEL_ID.fullmatch(path.name):
        # A name may hold bytes that no answer could spell.
        name = os.fsencode(path.name).decode(errors="replace")
        return Folder(name, path, None, f"{name!r} is no model id: letters, digits, `.`, `_`, `-` only")
    if os.path.exists(path / UNLOADED):  # `Path.exists` raises where we may not look
        problem = f"it is unloaded; load it, or remove {path.name}/{UNLOADED}"
        return Folder(path.name, path, None, problem, unloaded=True)
    try:
        config = read(path)
        files = _signature(path, NOT_LOADED)
        return Folder(path.name, path, config, "", files, fingerprint(config, path, files))
    except ConfigError as error:
        problem = str(error)
    except Exception as error:
        # One odd file must not stop the others from being followed.
        log.exception("%s cannot be read", path)
        problem = f"{path.name}/{CONFIG}: cannot be read ({type(error).__name__})"
    return Folder(path.name, path, None, problem)


def _signature(folder: Path, without: frozenset[str] = frozenset()) -> str:
    digest = hashlib.sha256()
    for directory, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        if os.path.islink(directory) and Path(directory) != folder:
            # Where a link leads is what `ln -sfn` changes. What lies deeper could be large, or a circle.
            digest.update(os.fsencode(os.path.realpath(directory)))
            names.clear()
        left_out = without if Path(directory) == folder else frozenset()
        for name in sorted(name for name in files if name not in left_out and not _is_scratch(name)):
            digest.update(_stat(Path(directory, name)))
    return digest.hexdigest()


def _is_scratch(name: str) -> bool:
    """What editors and desktops leave behind."""
    return name != UNLOADED and (name.startswith(".") or name.endswith("~"))


def _stat(file: Path) -> bytes:
    try:
        stat = file.stat()
        told = f" {stat.st_size} {stat.st_mtime_ns}"
    except OSError as error:
        told = f" {error.errno}"
    return os.fsencode(file) + told.encode()
