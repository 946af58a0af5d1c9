"""The table of tasks: their modules and default models."""

import deployments.tasks  # noqa: F401  (registers the tasks)
from deployments.task import MODULES, Module

HEAD = """# Tasks

`python -m deployments.reference` writes this table from `deployments/tasks/`. The `module_id` of a
`config.yml` selects the module. Without `hf_model` and without a checkpoint in its folder, the module
serves its default model.

| task | what it does | the Hub's name | `module_id` | default model |
|---|---|---|---|---|
"""


def text() -> str:
    """Write the document: a row per module, sorted by task."""
    return HEAD + "".join(map(_row, sorted(MODULES.values(), key=lambda module: module.task.name)))


def _row(module: type[Module]) -> str:
    task = module.task
    summary = task.summary + (" Streams." if task.chunk else "")
    cells = task.name, summary, task.pipeline_tag, f"`{module.module_id}`", module.default_model
    return f"| {' | '.join(cells)} |\n"
