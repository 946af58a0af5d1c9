"""Answer the questions one after the other, print the results, write benchmarks/RESULTS.md: `make bench`."""

import argparse
import importlib
import os
import signal
import sys
import time
import traceback

from filelock import FileLock, Timeout

from benchmarks import harness, workload

QUESTIONS = ("overhead", "efficiency", "peers", "generation", "images", "control", "memory")
ALONE = ("peers", "generation")


def main() -> int:
    """Return 1 when a question has no answer. A goal that is not met is a result, not a failure."""
    arguments = _arguments()
    seconds, rounds = (1.5, 1) if arguments.quick else (arguments.seconds, arguments.rounds)
    bench, results = harness.Bench(seconds, rounds, arguments.alone), workload.home() / "results"
    if arguments.again:
        (workload.home() / harness.SETTINGS).unlink(missing_ok=True)
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the `finally` blocks, which end servers
    try:
        for question in arguments.questions or (ALONE if arguments.alone else QUESTIONS):
            findings = answer(question, bench)
            failed += not findings.figures and not arguments.alone
            if not (arguments.alone or arguments.quick):
                (results / f"{question}.json").write_text(findings.model_dump_json(indent=1))
                harness.write([path for one in QUESTIONS if (path := results / f"{one}.json").exists()])
    finally:
        bench.close()
    return 1 if failed else 0


def answer(question: str, bench: harness.Bench) -> harness.Findings:
    """Measure and print one question. An error becomes a note, so that the next question is measured."""
    module = importlib.import_module(f"benchmarks.{question}")
    print(f"\n{module.TITLE} ...", flush=True)
    findings = harness.Findings(question=question, title=module.TITLE)
    begin, load = time.monotonic(), os.getloadavg()[0]
    try:
        module.measure(bench, findings)
    except Exception as error:
        traceback.print_exc()
        note = f"Not measured: {type(error).__name__}: {error}"
        findings = harness.Findings(question=question, title=module.TITLE, notes=[note])
        bench.close()
    when = f"{time.strftime('%Y-%m-%d %H:%M')}, {bench.rounds} times {bench.seconds:g} s a point"
    findings.when = f"{when}, {time.monotonic() - begin:.0f} s in all, load average {load:.1f} before"
    print(harness.document([findings]), flush=True)
    return findings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", choices=QUESTIONS, metavar="QUESTION", help=str(QUESTIONS))
    parser.add_argument("--seconds", type=float, default=4.0, help="per point; 4 if not given")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison; 3 if not given")
    parser.add_argument("--quick", action="store_true", help="1.5 seconds, one round; writes nothing")
    parser.add_argument("--again", action="store_true", help="measure the settings of peers again")
    parser.add_argument("--alone", action="store_true", help="without Roster; writes nothing")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        with FileLock(workload.home() / "lock", blocking=False):
            sys.exit(main())
    except Timeout:
        sys.exit("another `python -m benchmarks` runs in this checkout: the two would measure each other")
