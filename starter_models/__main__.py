"""Train the starter models, or print their held-out scores again."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it at import; every worker uses one core

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed

from starter_models.runner import evaluate_committed, starter_names, train_and_publish

WORKERS = 2


def main() -> None:
    """Run the selected models, two at a time, and print the scores of each when it has finished."""
    names = starter_names()
    parser = argparse.ArgumentParser(prog="starter_models", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", choices=names, help=f"one of: {', '.join(names)}")
    parser.add_argument("--evaluate", action="store_true", help="print the scores of the committed models")
    arguments = parser.parse_args()
    job = evaluate_committed if arguments.evaluate else train_and_publish
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
        jobs = [pool.submit(job, name) for name in arguments.names or names]
        for finished in as_completed(jobs):
            print(finished.result(), flush=True)


if __name__ == "__main__":
    main()
