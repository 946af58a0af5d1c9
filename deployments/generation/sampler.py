"""Each row's next token by the row's own wishes, in few calls for all rows of a batch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from deployments.generation.sampling import Draw, noise_key
from deployments.generation.sequence import Row
from deployments.generation.settings import Choice

if TYPE_CHECKING:
    import torch

NO_PENALTIES = (1.0, 0.0, 0.0)
LEAST_LOGPROB = -9999.0  # JSON knows no infinity; OpenAI's own number for a token that cannot come


class Chooser:
    """Chooses for one set of rows, token after token; made anew when rows join or leave.

    Costs a few tensor operations for each different set of settings, and a few for all penalties together.
    """

    def __init__(self, rows: Sequence[Row], vocabulary: int, device: Any) -> None:
        self.rows = rows
        self.draws = [
            (Draw(dict(settings)), _places(places, rows, device), [rows[place] for place in places])
            for settings, places in _alike(tuple(sorted(row.wishes.settings.items())) for row in rows).items()
            if settings
        ]
        penal = [place for place, row in enumerate(rows) if row.wishes.penalties != NO_PENALTIES]
        self.penal = _places(penal, rows, device)
        self.penalties = _Penalties([rows[place] for place in penal], vocabulary, device) if penal else None
        self.ruled = [place for place, row in enumerate(rows) if row.wishes.rules]
        self.curious = [place for place, row in enumerate(rows) if row.wishes.top_n_tokens]

    def __call__(self, logits: "torch.Tensor") -> list[Choice]:
        """One choice a row, for logits [rows, vocabulary]."""
        scores = self._ruled(logits.float())
        if self.penalties is not None:
            scores = _put(scores, self.penal, self.penalties.weigh(scores[self.penal]))
        chosen = self._chosen(scores)
        if self.penalties is not None:
            self.penalties.count(chosen[self.penal])
        logprobs = scores.log_softmax(-1)
        own = logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        choices = list(map(Choice, chosen.tolist(), own.tolist()))
        for place in self.curious:
            choices[place] = choices[place]._replace(likeliest=self._likeliest(place, logprobs[place]))
        return choices

    def _ruled(self, scores: "torch.Tensor") -> "torch.Tensor":
        """By the checkpoint's own rules; they read ids without padding, so row after row."""
        import torch

        for place in self.ruled:
            row = self.rows[place]
            ids = torch.tensor([[*row.prompt, *row.generated]], device=scores.device)
            scores = _put(scores, [place], row.wishes.rules(ids, scores[[place]]))
        return scores

    def _chosen(self, scores: "torch.Tensor") -> "torch.Tensor":
        chosen: torch.Tensor | None = None
        for draw, places, rows in self.draws:
            keys = [noise_key(row.wishes.seed, len(row.generated)) for row in rows]
            drawn = draw(scores[places], keys)
            if len(rows) == len(self.rows):
                return drawn
            chosen = _put(scores.argmax(-1) if chosen is None else chosen, places, drawn)
        return scores.argmax(-1) if chosen is None else chosen

    def _likeliest(self, place: int, logprobs: "torch.Tensor") -> list[tuple[int, float]]:
        best, ids = logprobs.topk(min(self.rows[place].wishes.top_n_tokens, len(logprobs)))
        return list(zip(ids.tolist(), best.clamp_min(LEAST_LOGPROB).tolist(), strict=True))


class _Penalties:
    """What rows have read and written, [rows, vocabulary], and what that takes from their logits."""

    def __init__(self, rows: Sequence[Row], vocabulary: int, device: Any) -> None:
        import torch

        penalties = torch.tensor([row.wishes.penalties for row in rows], device=device)
        self.repetition, self.frequency, self.presence = penalties.unsqueeze(-1).unbind(1)
        self.seen = torch.zeros(len(rows), vocabulary, dtype=torch.bool, device=device)
        self.counts = torch.zeros(len(rows), vocabulary, device=device)
        for place, row in enumerate(rows):
            written = torch.tensor(row.generated, dtype=torch.long, device=device)
            self.counts[place] = written.bincount(minlength=vocabulary)
            # Some models read more tokens than they can write.
            self.seen[place, [id for id in {*row.prompt, *row.generated} if id < vocabulary]] = True
        self.every = torch.arange(len(rows), device=device)

    def weigh(self, scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        repeated = torch.where(scores < 0, scores * self.repetition, scores / self.repetition)
        scores = torch.where(self.seen, repeated, scores)
        return scores - self.frequency * self.counts - self.presence * (self.counts > 0)

    def count(self, chosen: "torch.Tensor") -> None:
        self.counts[self.every, chosen] += 1
        self.seen[self.every, chosen] = True


def _alike(kinds: Iterable[Any]) -> dict[Any, list[int]]:
    found = defaultdict(list)
    for place, kind in enumerate(kinds):
        found[kind].append(place)
    return found


def _places(places: list[int], rows: Sequence[Row], device: Any) -> Any:
    """An index of these rows; a slice, which copies nothing, where it is all of them."""
    import torch

    return slice(None) if len(places) == len(rows) else torch.tensor(places, device=device)


def _put(into: "torch.Tensor", places: Any, values: "torch.Tensor") -> "torch.Tensor":
    if isinstance(places, slice):
        return values
    copy = into.clone()
    copy[places] = values
    return copy
