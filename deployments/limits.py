"""How much one pass through a network may hold."""

from pydantic import BaseModel, ConfigDict, Field


class Batching(BaseModel):
    """How much one forward pass may hold: inputs, and tokens (inputs times the longest one) or pixels.

    What is not given is found when the model has loaded. Reconfigured while it serves.
    """

    model_config = ConfigDict(extra="forbid")

    max_batch_size: int = Field(256, ge=1, le=4096)
    max_batch_tokens: int | None = Field(None, ge=1)
    max_batch_pixels: int | None = Field(None, ge=1)
