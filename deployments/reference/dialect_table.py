"""The table of each task's calls in each dialect."""

from collections.abc import Sequence

from deployments.dialect import Dialect
from deployments.task import TASKS, Task

HEAD = """# Calls of each task, by dialect

`python -m deployments.reference` writes this table from the calls that each dialect offers for each task; the
tests send each call. Where a path has no `{model_id}`, the request names the model: in its body, or in the
metadata of an rpc. ⇶ marks calls that can stream their responses. `openapi.json` and `protos/` hold the types
of requests and responses.

"""


def text(dialects: Sequence[Dialect]) -> str:
    """Write the document: a row per task, a column per dialect that offers a call for some task."""
    tasks = sorted(TASKS.values(), key=lambda task: task.name)
    spoken = [
        dialect for dialect in dialects if any(dialect.supported_calls(task, "{model_id}") for task in tasks)
    ]
    rows = [
        ["task", *(dialect.name for dialect in spoken)],
        ["---"] * (len(spoken) + 1),
        *([task.name, *(_cell(dialect, task) for dialect in spoken)] for task in tasks),
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return HEAD + table + "".join(_ignored_fields(dialect) for dialect in dialects if dialect.ignored_fields)


def _ignored_fields(dialect: Dialect) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(dialect.ignored_fields))
    return f"\nFields of {dialect.name} that are accepted with any value and change no answer: {names}.\n"


def _cell(dialect: Dialect, task: Task) -> str:
    """Name each call once, however many of its forms the dialect offers."""
    streams: dict[str, bool] = {}
    for offer in dialect.supported_calls(task, "{model_id}"):
        call = f"{offer.method} {offer.path}"
        streams[call] = streams.get(call, False) or offer.streams
    return "<br>".join(f"`{call}`{' ⇶' if streaming else ''}" for call, streaming in streams.items())
