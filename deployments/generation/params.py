"""The parameters of requests that generate text."""

from typing import Annotated

from pydantic import Field

from deployments.schema import Schema

MAX_NEW_TOKENS = 100_000


class SamplingParams(Schema):
    """The length of the output, and how to select its tokens. The checkpoint has the defaults."""

    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=MAX_NEW_TOKENS,
        description="The most tokens to generate; by default the checkpoint's limit.",
    )
    do_sample: bool | None = Field(
        None,
        description="Sample each token by its probability, instead of taking the best one. "
        "Default: true if a sampling parameter is given, otherwise the checkpoint's setting.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Higher values give less likely tokens; 0 always takes the best one."
    )
    top_k: int | None = Field(None, ge=1, description="Sample from this many of the best tokens.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Sample from the best tokens that together have this probability."
    )
    typical_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Sample from the most typical tokens that together have this probability.",
    )
    repetition_penalty: float | None = Field(
        None, gt=0, le=2, description="Above 1, tokens of the prompt and the output become less likely."
    )
    seed: int | None = Field(
        None, ge=0, le=2**63 - 1, description="The same seed gives the same output, alone or in any batch."
    )


class GenerationParams(SamplingParams):
    frequency_penalty: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Above 0, tokens become less likely with each occurrence in the output.",
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Above 0, tokens become less likely once they occur in the output."
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=16, description="Strings that end the output; they are not part of it."
    )
    max_length: int | None = Field(
        None,
        ge=1,
        description="The most tokens of prompt and output together; `max_new_tokens` takes precedence.",
    )
    truncate: int | None = Field(
        None,
        ge=1,
        description="Keep only this many of the prompt's last tokens, or fewer if fewer fit; by default a "
        "prompt that does not fit is refused.",
    )
    details: bool = Field(False, description="Return the finish reason, the seed and the tokens as well.")
    top_n_tokens: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Return this many of the most likely tokens at each position, with the details.",
    )
