"""`python -m deployments.reference`: write every generated document of this checkout."""

from pathlib import Path

import deployments.tasks  # noqa: F401  (registers the tasks)
from deployments.dialects import DIALECTS
from deployments.gateway import openapi
from deployments.reference import dialect_table, protos, task_table

ROOT = Path(__file__).parents[2]


def generated_files() -> dict[str, str]:
    """Generate the text of each file, by its path in the checkout."""
    services = {rpc.service for dialect in DIALECTS for rpc in dialect.rpcs()}
    return {
        "docs/dialects.md": dialect_table.text(DIALECTS),
        "docs/openapi.json": openapi.text(DIALECTS),
        "docs/tasks.md": task_table.text(),
        **{f"docs/protos/{name}": text for name, text in protos.documents(services).items()},
    }


if __name__ == "__main__":
    for path, text in generated_files().items():
        (ROOT / path).write_text(text, encoding="utf-8")
