"""The sampling settings of one sequence, and the token that a sampler returns."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deployments.generation.params import SamplingParams

MIN_TEMPERATURE = 1e-4  # below it logits overflow, and the best token wins anyway
SAMPLING_FIELDS = ("do_sample", "temperature", "top_k", "top_p", "typical_p")


class SampledToken(NamedTuple):
    """A token id with its logprob before temperature and filters.

    `top_logprobs` are the (id, logprob) pairs of the most likely tokens, best first.
    """

    id: int
    logprob: float
    top_logprobs: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class SamplingSettings:
    """How a sampler selects the tokens of one sequence.

    `sampling` is the result of `resolve_sampling`; empty means greedy. `seed` counts only with `sampling`.
    `rules` are the logits processors of the checkpoint's generation config.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_n_tokens: int = 0
    rules: Any = None

    @property
    def penalties(self) -> tuple[float, float, float]:
        """The repetition, frequency and presence penalties."""
        return self.repetition_penalty, self.frequency_penalty, self.presence_penalty


def resolve_sampling(params: SamplingParams, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling settings of a request; empty means greedy.

    `defaults` are the checkpoint's settings; a request's field replaces the default of the same name.
    `do_sample` decides whether to sample. If the request leaves it out, any other sampling field of the
    request turns sampling on; otherwise the checkpoint's default decides.
    """
    request = {name: value for name in SAMPLING_FIELDS if (value := getattr(params, name)) is not None}
    do_sample = request.get("do_sample", len(request) > 0 or defaults.get("do_sample", False))
    settings = {name: defaults[name] for name in SAMPLING_FIELDS if defaults.get(name) is not None} | request
    if not do_sample or settings.get("temperature", 1.0) < MIN_TEMPERATURE:
        return {}
    return settings | {"do_sample": True}


def random_seed() -> int:
    """Return a random seed for a request without one."""
    return secrets.randbits(32)
