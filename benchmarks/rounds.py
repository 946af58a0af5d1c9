"""What is compared runs in turn, A B A B, on a machine whose speed changes from minute to minute."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the least and the most of them."""

    value: float
    least: float
    most: float

    @property
    def spread(self) -> str:
        return f"{self.least:.2f} to {self.most:.2f}"


def in_turn(rounds: int, runs: Mapping[K, Callable[[], T]]) -> dict[K, list[T]]:
    """Call each of `runs` once a round, every other round in the opposite order."""
    results: dict[K, list[T]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            results[name].append(runs[name]())
    return results


def between(those: Sequence[float]) -> list[float]:
    """What those would have been at the time of these, which were measured one between each two of them."""
    return [fmean(pair) for pair in pairwise(those)]


def ratio(these: Sequence[float], those: Sequence[float]) -> Ratio:
    """These to those, round by round."""
    each = [one / other for one, other in zip(these, those, strict=True)]
    return Ratio(median(each), min(each), max(each))


def listed(rates: Sequence[float]) -> str:
    """The bare numbers, as they stand beside a figure."""
    return ", ".join(f"{rate:.0f}" for rate in rates)
