"""Sampling of the next tokens of a batch: each sequence by its own settings, in few tensor operations."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from deployments.generation.sampling import GumbelSampler, noise_key
from deployments.generation.sequence import Sequence
from deployments.generation.settings import SampledToken

if TYPE_CHECKING:
    import torch

NO_PENALTIES = (1.0, 0.0, 0.0)
MIN_LOGPROB = -9999.0  # JSON has no infinity; OpenAI's number for a token of probability zero


class Sampler:
    """Samples the next tokens of one list of sequences; a batch that changes needs a new sampler.

    Costs a few tensor operations for each distinct set of settings, and a few for all penalties together.
    """

    def __init__(self, sequences: list[Sequence], vocabulary_size: int, device: Any) -> None:
        self.sequences = sequences
        self.groups = [
            (
                GumbelSampler(dict(sampling)),
                _tensor_index(indices, sequences, device),
                [sequences[index] for index in indices],
            )
            for sampling, indices in _indices_by_value(
                tuple(sorted(sequence.settings.sampling.items())) for sequence in sequences
            ).items()
            if sampling
        ]
        penalized = [i for i, sequence in enumerate(sequences) if sequence.settings.penalties != NO_PENALTIES]
        self.penalized = _tensor_index(penalized, sequences, device)
        self.penalties = (
            _Penalties([sequences[index] for index in penalized], vocabulary_size, device)
            if penalized
            else None
        )
        self.with_rules = [i for i, sequence in enumerate(sequences) if sequence.settings.rules]
        self.with_top_tokens = [i for i, sequence in enumerate(sequences) if sequence.settings.top_n_tokens]

    def __call__(self, logits: "torch.Tensor") -> list[SampledToken]:
        """Return one token for each sequence, from logits [sequences, vocabulary]."""
        scores = self._apply_rules(logits.float())
        if self.penalties is not None:
            penalized_scores = self.penalties.apply(scores[self.penalized])
            scores = _with_values(scores, self.penalized, penalized_scores)
        token_ids = self._select(scores)
        if self.penalties is not None:
            self.penalties.count(token_ids[self.penalized])
        all_logprobs = scores.log_softmax(-1)
        logprobs = all_logprobs.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1)
        tokens = list(map(SampledToken, token_ids.tolist(), logprobs.tolist()))
        for index in self.with_top_tokens:
            top_logprobs = self._top_logprobs(index, all_logprobs[index])
            tokens[index] = tokens[index]._replace(top_logprobs=top_logprobs)
        return tokens

    def _apply_rules(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Apply the checkpoints' rules, one sequence at a time: they take token ids without padding."""
        import torch

        for index in self.with_rules:
            sequence = self.sequences[index]
            ids = torch.tensor([sequence.token_ids], device=scores.device)
            scores = _with_values(scores, [index], sequence.settings.rules(ids, scores[[index]]))
        return scores

    def _select(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Return token ids [sequences]: sampled ones, and the best ones of greedy sequences."""
        token_ids: torch.Tensor | None = None
        for sampler, indices, sequences in self.groups:
            keys = [noise_key(sequence.settings.seed, len(sequence.generated)) for sequence in sequences]
            sampled = sampler(scores[indices], keys)
            if len(sequences) == len(self.sequences):
                return sampled
            token_ids = _with_values(scores.argmax(-1) if token_ids is None else token_ids, indices, sampled)
        return scores.argmax(-1) if token_ids is None else token_ids

    def _top_logprobs(self, index: int, logprobs: "torch.Tensor") -> list[tuple[int, float]]:
        count = min(self.sequences[index].settings.top_n_tokens, len(logprobs))
        values, ids = logprobs.topk(count)
        return list(zip(ids.tolist(), values.clamp_min(MIN_LOGPROB).tolist(), strict=True))


class _Penalties:
    """The token counts [sequences, vocabulary] of sequences, and the penalties on their logits."""

    def __init__(self, sequences: list[Sequence], vocabulary_size: int, device: Any) -> None:
        import torch

        penalties = torch.tensor([sequence.settings.penalties for sequence in sequences], device=device)
        self.repetition, self.frequency, self.presence = penalties.unsqueeze(-1).unbind(1)
        self.occurs = torch.zeros(len(sequences), vocabulary_size, dtype=torch.bool, device=device)
        self.counts = torch.zeros(len(sequences), vocabulary_size, device=device)
        for index, sequence in enumerate(sequences):
            generated = torch.tensor(sequence.generated, dtype=torch.long, device=device)
            self.counts[index] = generated.bincount(minlength=vocabulary_size)
            # Some models accept more token ids than they have logits for.
            self.occurs[index, [id for id in {*sequence.token_ids} if id < vocabulary_size]] = True
        self.rows = torch.arange(len(sequences), device=device)

    def apply(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Return the scores [sequences, vocabulary] with the penalties."""
        import torch

        repeated = torch.where(scores < 0, scores * self.repetition, scores / self.repetition)
        scores = torch.where(self.occurs, repeated, scores)
        return scores - self.frequency * self.counts - self.presence * (self.counts > 0)

    def count(self, token_ids: "torch.Tensor") -> None:
        """Count the next token of each sequence."""
        self.counts[self.rows, token_ids] += 1
        self.occurs[self.rows, token_ids] = True


def _indices_by_value(values: Iterable[Any]) -> dict[Any, list[int]]:
    indices = defaultdict(list)
    for index, value in enumerate(values):
        indices[value].append(index)
    return indices


def _tensor_index(indices: list[int], sequences: list[Sequence], device: Any) -> Any:
    """Return a tensor of indices; a slice, which copies nothing, if it covers all sequences."""
    import torch

    return slice(None) if len(indices) == len(sequences) else torch.tensor(indices, device=device)


def _with_values(tensor: "torch.Tensor", indices: Any, values: "torch.Tensor") -> "torch.Tensor":
    """Return a copy of the tensor with the rows at `indices` replaced."""
    if isinstance(indices, slice):
        return values
    copy = tensor.clone()
    copy[indices] = values
    return copy
