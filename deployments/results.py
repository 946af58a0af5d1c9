"""What a call of a model brings back: an output or an error per input, and what the work took."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Usage:
    """What the answers to one call took.

    `costs` holds each input's cost: of a text its tokens, 0 where it could not be read. `queued_s` is the
    longest that an input waited, of which `encoded_s` went into encoding what was encoded with them;
    `inference_s` is the time in the network of the batches that held them, and `batches` the size of each of
    those.
    """

    costs: list[int] = field(default_factory=list)
    queued_s: float = 0.0
    encoded_s: float = 0.0
    inference_s: float = 0.0
    batches: list[int] = field(default_factory=list)


class InferenceResults(list[Any]):
    """One output, or one exception, per input, in order; `usage` tells what they took."""

    def __init__(self, values: Any = (), usage: Usage | None = None) -> None:
        super().__init__(values)
        self.usage = usage or Usage()
