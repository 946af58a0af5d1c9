"""Generate text from templates and the word lists in data/."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

DATA_FOLDER = Path(__file__).resolve().parent / "data"
GAP = re.compile(r"\{(!?)(\w+)\}")

Filling = str | Sequence[str] | Callable[[random.Random], str]
Vocabulary = Mapping[str, Filling]


def load_data(name: str) -> dict[str, Any]:
    """Load data/<name>.yaml."""
    data: dict[str, Any] = yaml.safe_load((DATA_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return data


def fill(
    rng: random.Random, template: str, vocabulary: Vocabulary, opposite: Vocabulary | None = None
) -> str:
    """Replace every {gap} of a template, from left to right, and the gaps in what replaces it.

    The vocabulary maps a gap to a fixed string, to a list from which one item is drawn, or to a function
    that draws. `{!gap}` takes its text from the opposite vocabulary.
    """

    def replace(gap: re.Match[str]) -> str:
        source, other = (opposite or {}, vocabulary) if gap[1] else (vocabulary, opposite)
        filling = source[gap[2]]
        if isinstance(filling, str):
            return filling
        text = filling(rng) if callable(filling) else rng.choice(filling)
        return fill(rng, text, source, other)

    return GAP.sub(replace, template)


def to_regex(
    template: str, vocabulary: Mapping[str, Sequence[str]], named: frozenset[str] = frozenset()
) -> str:
    """Build a regular expression for the texts that `fill` can make; some gaps become named groups."""
    regex, *parts = re.split(r"\{(\w+)\}", template)
    regex = re.escape(regex)
    for gap, literal in zip(parts[::2], parts[1::2], strict=True):
        choices = "|".join(to_regex(choice, vocabulary) for choice in vocabulary[gap])
        group = f"?P<{gap}>" if gap in named else "?:"
        regex += f"({group}{choices}){re.escape(literal)}"
        named -= {gap}  # the first occurrence is enough
    return regex


def choose_weighted(rng: random.Random, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw an entry with the probability that its `weight` gives it."""
    return rng.choices(entries, [entry["weight"] for entry in entries])[0]


def invented_word(rng: random.Random) -> str:
    """Make a word without a meaning, so that models learn to copy or ignore unknown words."""
    syllables = (rng.choice("bdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
    return "".join(syllables) + rng.choice(["", "n", "r", "s", "t"])
