"""No-op: a task without work, to measure the overhead around it; one more file in a copy of the project."""

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.schema import Schema, Text
from deployments.task import Module, task


class NoopInput(Schema):
    text: Text = Field(description="Any text.", examples=["a"])


class NoopParams(Schema): ...


class NoopOutput(Schema):
    size: int


@task("noop")
class Noop(Module):
    """Return the length of a text."""

    module_id = "00000000-0000-0000-0000-000000000000"
    default_model = "none/none"

    def load(self, checkpoint: Checkpoint) -> None:
        import torch

        self.model = torch.nn.Linear(1, 1)

    def run(self, inputs: list[NoopInput], params: NoopParams) -> list[NoopOutput]:
        return [NoopOutput(size=len(one.text)) for one in inputs]
