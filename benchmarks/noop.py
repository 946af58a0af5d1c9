"""No-op: a task that does nothing, to measure what is around it; one file in a copy of the house."""

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.schema import Schema, Text
from deployments.task import Module, task


class NoopInput(Schema):
    text: Text = Field(description="Any text.", examples=["a"])


class NoopParams(Schema):
    pass


class NoopOutput(Schema):
    size: int


@task("noop")
class Noop(Module):
    """Do nothing."""

    module_id = "00000000-0000-0000-0000-000000000000"
    default_model = "nobody/nothing"

    def load(self, checkpoint: Checkpoint) -> None:
        import torch

        self.model = torch.nn.Linear(1, 1)

    def run(self, inputs: list[NoopInput], params: NoopParams) -> list[NoopOutput]:
        return [NoopOutput(size=len(one.text)) for one in inputs]
