"""The models folder as it stands: per folder a config, or why not. Polled, so any file system will do."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from deployments.application import fingerprint
from deployments.config import CONFIG, ConfigError, ModelConfig, read

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NOT_LOADED = frozenset({CONFIG, "README.md"})  # an edit of these does not change what is loaded


@dataclass(frozen=True)
class Folder:
    """One folder: its `config`, or the `problem` with it. `files` is a signature of the checkpoint beside it;
    `fingerprint` one of all that the application is made from."""

    id: str
    path: Path
    config: ModelConfig | None
    problem: str = ""
    files: str = ""
    fingerprint: str = ""


class Folders:
    """Reads the models folder again and again; only what has changed is parsed again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, tuple[str, Folder]] = {}
        self._last_seen: dict[str, str] = {}

    def scan(self) -> dict[str, Folder]:
        """Every model's folder by its id. One still being written is as it was before, or not there.

        When the models folder itself is away (a mount that is gone), all is as it was before.
        """
        try:
            seen = {path.name: _signature(path) for path in self._paths()}
        except FileNotFoundError:
            return self._folders()
        self._known = {id: known for id, known in self._known.items() if id in seen}
        for id, signature in seen.items():
            settled = self._last_seen.get(id) == signature
            if settled and self._known.get(id, ("",))[0] != signature:
                self._known[id] = signature, _read(self.root / id)
        self._last_seen = seen
        return self._folders()

    def _folders(self) -> dict[str, Folder]:
        return {id: folder for id, (_, folder) in self._known.items()}

    def _paths(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _read(path: Path) -> Folder:
    if not MODEL_ID.fullmatch(path.name):
        return Folder(
            path.name, path, None, f"{path.name!r} is no model id: letters, digits, `.`, `_`, `-` only"
        )
    try:
        config = read(path)
    except ConfigError as error:
        return Folder(path.name, path, None, str(error))
    files = _signature(path, NOT_LOADED)
    return Folder(path.name, path, config, "", files, fingerprint(config, path, files))


def _signature(folder: Path, without: frozenset[str] = frozenset()) -> str:
    digest = hashlib.sha256()
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(set(files) - without if Path(directory) == folder else files):
            digest.update(_stat(Path(directory, name)).encode())
    return digest.hexdigest()


def _stat(file: Path) -> str:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return f"{file} gone"
    return f"{file} {stat.st_size} {stat.st_mtime_ns}"
