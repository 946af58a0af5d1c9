"""What a question is measured with: how long, how often, and a Roster, started when first asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.cluster import Roster


@dataclass
class Bench:
    """`seconds` per point and `rounds` of each comparison; `alone` leaves Roster out."""

    seconds: float = 4.0
    rounds: int = 3
    alone: bool = False
    _roster: "Roster | None" = None

    @property
    def roster(self) -> "Roster":
        """The cluster of these questions."""
        if self._roster is None:
            from benchmarks.cluster import Roster

            self._roster = Roster()
        return self._roster

    def end(self) -> None:
        """End the cluster, if there is one; the next question starts another."""
        roster, self._roster = self._roster, None
        if roster:
            roster.close()
