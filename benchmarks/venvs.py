"""An environment of its own for each peer, made once in `.bench/venvs/`, with our torch and transformers."""

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.models import home

INSTALL_S = 900.0
TELL = """\
import sys
from importlib.metadata import version
print(*(f"{package} {version(package)}" for package in sys.argv[1:]), sep=", ")
"""


class InstallError(Exception):
    """A peer that does not install here; the line in which pip says why."""


def python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `name`, made now if it is missing. Raises `InstallError`."""
    folder = home() / "venvs" / name
    interpreter, stamp = folder / "bin" / "python", folder / "requirements"
    wanted = "\n".join([_pinned("torch"), _pinned("transformers"), *requirements])
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", *wanted.splitlines()])
        stamp.write_text(wanted)
    return interpreter


def installed(name: str, requirements: Sequence[str]) -> str:
    """The versions of these, torch and transformers in the environment `name`. Raises `InstallError`."""
    packages = ("torch", "transformers", *(re.split(r"[^\w.-]", one)[0] for one in requirements))
    return _run([str(python(name, requirements)), "-c", TELL, *dict.fromkeys(packages)]).strip()


def _pinned(package: str) -> str:
    return f"{package}=={version(package).partition('+')[0]}"


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise InstallError(f"not installed within {INSTALL_S:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise InstallError(lines[-1][:300])
    return done.stdout
