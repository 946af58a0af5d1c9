"""The limits of one pass through a network."""

from pydantic import BaseModel, ConfigDict, Field


class Batching(BaseModel):
    """The most that one forward pass may hold. A running replica takes new limits without loading again."""

    model_config = ConfigDict(extra="forbid")

    max_batch_size: int = Field(256, ge=1, le=4096, description="The most inputs in one batch.")
    max_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="The most tokens in one batch: its inputs times the longest one. By default Roster "
        "measures what pays off when the model loads.",
    )
    max_batch_pixels: int | None = Field(
        None,
        ge=1,
        description="The most pixels in one batch: its images times the largest one. By default Roster "
        "measures what pays off when the model loads.",
    )
