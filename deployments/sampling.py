"""Choosing the next token: each row by its own seed, so that an answer is the same alone and in any batch."""

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from deployments.schema import Schema

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 100_000
LEAST_TEMPERATURE = 1e-4  # below, logits overflow, and the best token wins anyway
SETTINGS = ("do_sample", "temperature", "top_k", "top_p", "typical_p")


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


def resolve(params: SamplingParams, own: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling settings that hold for a request; empty means greedy.

    Sampling happens when `do_sample` says so, or in its absence when any setting is given, or the
    checkpoint's `own` settings say so. What is not given is the checkpoint's own.
    """
    asked = {name: value for name in SETTINGS if (value := getattr(params, name)) is not None}
    wanted = asked.get("do_sample", len(asked) > 0 or own.get("do_sample", False))
    settings = {name: own[name] for name in SETTINGS if own.get(name) is not None} | asked
    if not wanted or settings.get("temperature", 1.0) < LEAST_TEMPERATURE:
        return {}
    return settings | {"do_sample": True}


def fresh_seed() -> int:
    return secrets.randbits(32)


class Sampler:
    """A logits processor that leaves each row's next token, drawn by the row's own seed, as the best one.

    Noise from the Gumbel distribution makes the largest of the noisy logits a draw from the softmax of the
    plain ones, so `generate` stays greedy and the global random state untouched. `logprobs` are those of
    the tokens last chosen, before temperature and cuts.
    """

    def __init__(self, settings: Mapping[str, Any], seeds: Sequence[int], device: Any) -> None:
        import torch

        self.warpers = _warpers(settings) if settings else None
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.logprobs: list[float] = []

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        plain = scores
        if self.warpers is not None:
            scores = self.warpers(input_ids, scores) + self._gumbel(scores)
        chosen = scores.argmax(-1, keepdim=True)
        self.logprobs = plain.log_softmax(-1).gather(-1, chosen).squeeze(-1).tolist()
        return scores

    def _gumbel(self, scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        waits = torch.empty_like(scores)
        for row, generator in zip(waits, self.generators, strict=True):
            row.exponential_(generator=generator)
        return -waits.clamp_min_(1e-30).log_()


def _warpers(settings: Mapping[str, Any]) -> Any:
    """transformers' own, in its own order, for those settings that change something."""
    import transformers as library

    found = library.LogitsProcessorList()
    if settings.get("temperature", 1.0) != 1.0:
        found.append(library.TemperatureLogitsWarper(float(settings["temperature"])))
    if settings.get("top_k"):
        found.append(library.TopKLogitsWarper(settings["top_k"]))
    if settings.get("top_p", 1.0) < 1.0:
        found.append(library.TopPLogitsWarper(settings["top_p"]))
    if settings.get("typical_p", 1.0) < 1.0:
        found.append(library.TypicalLogitsWarper(settings["typical_p"]))
    return found
