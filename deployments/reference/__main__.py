"""`python -m deployments.reference`: write every generated file of this checkout."""

from pathlib import Path

import deployments.tasks  # noqa: F401  (registers the tasks)
from deployments.dialects import DIALECTS
from deployments.gateway import openapi
from deployments.reference import architecture, configuration, dialect_table, protos, task_table
from deployments.wire.open_inference.protos import COMPILED, SERVICE

ROOT = Path(__file__).parents[2]
INFERENCE_PROTO = ROOT / "docs" / "protos" / "inference.proto"


def generated_files() -> dict[Path, bytes]:
    """Generate the content of each file."""
    docs, services = ROOT / "docs", {rpc.service for dialect in DIALECTS for rpc in dialect.rpcs()}
    texts = {
        docs / "architecture.md": architecture.text(),
        docs / "configuration.md": configuration.text(),
        docs / "dialects.md": dialect_table.text(DIALECTS),
        docs / "openapi.json": openapi.text(DIALECTS),
        docs / "tasks.md": task_table.text(),
        **{docs / "protos" / name: text for name, text in protos.documents(services - {SERVICE}).items()},
    }
    return {
        COMPILED: protos.compiled(INFERENCE_PROTO),
        **{path: text.encode() for path, text in texts.items()},
    }


if __name__ == "__main__":
    for path, content in generated_files().items():
        path.write_bytes(content)
