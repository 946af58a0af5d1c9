"""Trains the starter models, or prints their held-out scores again."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported: every worker keeps to one core

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed

from starter_models.runs import measure_one, train_one
from starter_models.training import discover

WORKERS = 2


def main() -> None:
    """Runs the chosen models, two at a time, and prints each one's scores when it is done."""
    choice = arguments()
    work = measure_one if choice.evaluate else train_one
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
        for finished in as_completed([pool.submit(work, name) for name in choice.names or discover()]):
            print(finished.result(), flush=True)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    names = list(discover())
    parser = argparse.ArgumentParser(prog="starter_models", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"some of: {', '.join(names)} (default: all)"
    )
    parser.add_argument(
        "--evaluate", action="store_true", help="only reload the folders and print their scores"
    )
    choice = parser.parse_args()
    unknown = set(choice.names) - set(names)
    if unknown:
        parser.error(f"no such starter model: {', '.join(sorted(unknown))}")
    return choice


if __name__ == "__main__":
    main()
