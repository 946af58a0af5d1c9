"""The README's table of tasks, read off the tasks themselves.

`python -m deployments.reference.task_table` writes it.
"""

from pathlib import Path

import deployments.tasks  # noqa: F401  (registers them)
from deployments.task import MODULES, Module

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- tasks: written by `make docs` -->\n", "<!-- /tasks -->"
HEAD = """| task | what it does | the Hub's name | `module_id` | default model |
|---|---|---|---|---|
"""


def table() -> str:
    """A row per module, by task."""
    return HEAD + "".join(map(_row, sorted(MODULES.values(), key=lambda module: module.task.name)))


def with_table(text: str) -> str:
    """A README with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def _row(module: type[Module]) -> str:
    task = module.task
    summary = task.summary + (" Streams." if task.chunk else "")
    cells = task.name, summary, task.pipeline_tag, f"`{module.module_id}`", module.default_model
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
