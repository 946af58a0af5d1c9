"""What a model of each task can be asked in each dialect.

`python -m deployments.reference.dialect_table` writes it to docs/dialects.md.
"""

from collections.abc import Sequence
from pathlib import Path

from deployments.dialect import Dialect
from deployments.task import TASKS, Task

FILE = Path(__file__).parents[2] / "docs" / "dialects.md"

HEAD = """# What can be asked, in which dialect

Written by `make docs` from what the dialects offer for each task; each call is tried in the tests. Where a
path has no `{model_id}`, the request names the model: its body, or the metadata of an rpc. ⇶ marks calls of
which the answers can stream. `openapi.json` and `protos/` type what goes in and out.

"""


def text(dialects: Sequence[Dialect]) -> str:
    """The document: a row per task, a column per dialect in which some task can be asked."""
    tasks = sorted(TASKS.values(), key=lambda task: task.name)
    spoken = [dialect for dialect in dialects if any(dialect.offers(task, "{model_id}") for task in tasks)]
    rows = [
        ["task", *(dialect.name for dialect in spoken)],
        ["---"] * (len(spoken) + 1),
        *([task.name, *(_cell(dialect, task) for dialect in spoken)] for task in tasks),
    ]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(dialect: Dialect, task: Task) -> str:
    """Each call once, however many of its forms are offered."""
    streams: dict[str, bool] = {}
    for offer in dialect.offers(task, "{model_id}"):
        call = f"{offer.method} {offer.path}"
        streams[call] = streams.get(call, False) or offer.streams
    return "<br>".join(f"`{call}`{' ⇶' if streaming else ''}" for call, streaming in streams.items())


if __name__ == "__main__":
    import deployments.tasks  # noqa: F401 - registers the tasks
    from deployments.dialects import DIALECTS

    FILE.write_text(text(DIALECTS), encoding="utf-8")
