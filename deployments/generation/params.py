"""The parameters of a request that generates text."""

from typing import Annotated

from pydantic import Field

from deployments.schema import Schema

MAX_NEW_TOKENS = 100_000


class SamplingParams(Schema):
    """How much to generate, and how tokens are chosen. What is not given, the checkpoint decides."""

    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=MAX_NEW_TOKENS,
        description="The most tokens to generate; the checkpoint's own if not given.",
    )
    do_sample: bool | None = Field(
        None,
        description="Draw each token by its probability, instead of taking the best. "
        "If not given: when a setting below asks for it, or the checkpoint does.",
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Higher is more surprising; 0 always takes the best token."
    )
    top_k: int | None = Field(None, ge=1, description="Draw among this many of the best tokens.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw among the best tokens, as many as together have this probability."
    )
    typical_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Draw among the most typical tokens that together have this probability.",
    )
    repetition_penalty: float | None = Field(
        None, gt=0, le=2, description="Above 1, tokens that were there before become less likely."
    )
    seed: int | None = Field(
        None, ge=0, le=2**63 - 1, description="The same seed gives the same answer, alone or in any batch."
    )


class GenerationParams(SamplingParams):
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Above 0, tokens become less likely each time the answer has them."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Above 0, tokens become less likely once the answer has them."
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=16, description="Strings that end the answer; they are not part of it."
    )
    truncate: int | None = Field(
        None,
        ge=1,
        description="Keep only so many of the prompt's last tokens; all that fit if not given.",
    )
    details: bool = Field(False, description="Tell why the answer ended, its seed and its tokens as well.")
    top_n_tokens: int | None = Field(
        None, ge=0, le=20, description="Tell so many of the likeliest tokens at each place, with the details."
    )
