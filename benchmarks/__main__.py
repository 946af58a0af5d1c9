"""`make bench`: ask the questions one after the other, print what was found, write benchmarks/RESULTS.md."""

import argparse
import fcntl
import importlib
import os
import signal
import sys
import time
import traceback
from types import ModuleType
from typing import IO

from benchmarks import findings, models, report, tried
from benchmarks.bench import Bench

QUESTIONS = ("overhead", "efficiency", "peers", "generation", "images", "control", "memory")
ALONE = ("peers", "generation")


def main() -> int:
    """Returns 1 when a question could not be answered; unmet goals are findings, not failures."""
    arguments = _arguments()
    seconds, rounds = (1.5, 1) if arguments.quick else (arguments.seconds, arguments.rounds)
    bench = Bench(seconds, rounds, arguments.alone)
    asked = arguments.questions or (ALONE if arguments.alone else QUESTIONS)
    broken = 0
    lock = (models.home() / "lock").open("w")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    try:
        _claim(lock)
        if arguments.again:
            tried.forget()
        for question in asked:
            found = ask(importlib.import_module(f"benchmarks.{question}"), question, bench)
            broken += not found.figures and not arguments.alone
            _print(found)
            if not (arguments.alone or arguments.quick):
                found.save(models.home() / "results" / f"{question}.json")
    finally:
        bench.end()
    if not (arguments.alone or arguments.quick):
        saved = [models.home() / "results" / f"{question}.json" for question in QUESTIONS]
        report.write([findings.read(path) for path in saved if path.exists()])
        print(f"Written: {report.RESULTS.relative_to(models.ROOT)}", flush=True)
    return 1 if broken else 0


def _claim(lock: IO[str]) -> None:
    """Two at once would measure each other."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("another `python -m benchmarks` runs in this checkout") from None


def ask(module: ModuleType, question: str, bench: Bench) -> findings.Findings:
    """One question's findings, or why there are none: the next question is asked all the same."""
    print(f"\n## {module.TITLE}", flush=True)
    begin = time.monotonic()
    load = os.getloadavg()[0]
    try:
        found: findings.Findings = module.measure(bench)
    except Exception as error:
        traceback.print_exc()
        found = findings.failed(question, module.TITLE, error)
        bench.end()
    found.when = time.strftime("%Y-%m-%d %H:%M")
    settings = f"{bench.rounds} times {bench.seconds:g} s a point"
    found.took = f"{settings}, {time.monotonic() - begin:.0f} s in all, load average {load:.1f} before"
    return found


def _print(found: findings.Findings) -> None:
    if found.figures:
        print(findings.table(found.figures))
    print(
        *(f"({name}: {value})" for name, value in found.beside),
        *found.notes,
        f"{found.took}.",
        sep="\n",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"all of {', '.join(QUESTIONS)}")
    parser.add_argument("--seconds", type=float, default=4.0, help="per point; 4 if not given")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison; 3 if not given")
    parser.add_argument("--quick", action="store_true", help="1.5 seconds, one round; nothing is written")
    parser.add_argument("--again", action="store_true", help="try the peers' settings anew")
    parser.add_argument(
        "--alone", action="store_true", help="peers and yardsticks without Roster; prints only"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
