"""Which setting suits a server best here: tried once on a machine, and remembered in `.bench/tried.json`."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from benchmarks.inprocess import CORES
from benchmarks.models import home

S = TypeVar("S")


def rates(key: str, settings: Iterable[S], rate: Callable[[S], float]) -> dict[S, float]:
    """What `rate` told of each setting, by the setting; fastest first. Remembered under `key`."""
    path = _path()
    known = json.loads(path.read_text()) if path.exists() else {}
    told = known.setdefault(f"{key}, {CORES} cores", {})
    found = {}
    for setting in settings:
        if str(setting) not in told:
            told[str(setting)] = round(rate(setting), 1)
            path.write_text(json.dumps(known, indent=1))
        found[setting] = float(told[str(setting)])
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def line(found: dict[S, float], unit: str) -> str:
    """The rates in one line."""
    return "; ".join(f"{setting}: {rate:g} {unit}" for setting, rate in found.items())


def forget() -> None:
    """Try all anew."""
    _path().unlink(missing_ok=True)


def _path() -> Path:
    return home() / "tried.json"
