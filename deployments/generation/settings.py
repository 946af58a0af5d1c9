"""How the tokens of one answer are chosen, and what was chosen."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deployments.generation.params import SamplingParams

LEAST_TEMPERATURE = 1e-4  # below, logits overflow, and the best token wins anyway
SETTINGS = ("do_sample", "temperature", "top_k", "top_p", "typical_p")


class Choice(NamedTuple):
    """A token, its logprob before temperature and cuts, and the likeliest (id, logprob) pairs, best first."""

    token: int
    logprob: float
    likeliest: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Wishes:
    """How one answer's tokens are chosen.

    `settings` are as `resolve` gives them, with `seed`; empty for the best token each time. `rules` are the
    checkpoint's own, as logits processors. The penalties are as the request's fields of these names tell.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_n_tokens: int = 0
    rules: Any = None

    @property
    def penalties(self) -> tuple[float, float, float]:
        return self.repetition_penalty, self.frequency_penalty, self.presence_penalty


def resolve(params: SamplingParams, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling settings that hold for a request; empty means greedy.

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
    """Return a random seed for a request that gives none."""
    return secrets.randbits(32)
