"""The result of a call of a model: an output or an error per input, and the cost of the work."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Usage:
    """The cost of one call.

    `costs` holds each input's cost: the tokens of a text, 0 if it could not be read. `truncated` holds the
    number of tokens that were cut off each input, because the network reads fewer. `queued_s` is the
    longest time that an input waited, of which `encoded_s` was spent on encoding; `inference_s` is the time
    in the network of the batches with these inputs, and `batches` the sizes of those batches.
    """

    costs: list[int] = field(default_factory=list)
    truncated: list[int] = field(default_factory=list)
    queued_s: float = 0.0
    encoded_s: float = 0.0
    inference_s: float = 0.0
    batches: list[int] = field(default_factory=list)


class InferenceResults(list[Any]):
    """One output, or one exception, per input, in order; `usage` is the cost of the call."""

    def __init__(self, values: Any = (), usage: Usage | None = None) -> None:
        super().__init__(values)
        self.usage = usage or Usage()
