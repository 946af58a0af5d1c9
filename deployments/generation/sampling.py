"""Random sampling with one seed for each sequence, so that a batch does not change a sequence's tokens."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# SplitMix64: the increment between inputs, then two rounds of (shift, mask of a logical shift, factor).
GOLDEN = 0x9E3779B97F4A7C15
ROUNDS = ((30, 2**34 - 1, 0xBF58476D1CE4E5B9), (27, 2**37 - 1, 0x94D049BB133111EB))
LAST_SHIFT = (31, 2**33 - 1)


class SamplingLogitsProcessor:
    """A logits processor that samples a token for each sequence and makes it the best one.

    So `generate` stays greedy, and the global random state does not change.
    """

    def __init__(self, sampling: Mapping[str, Any], seeds: Sequence[int], device: Any) -> None:
        self.sampler, self.seeds, self.position = GumbelSampler(sampling), seeds, 0

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        token_ids = self.sampler(scores, [noise_key(seed, self.position) for seed in self.seeds])
        self.position += 1
        return scores.scatter(-1, token_ids.unsqueeze(-1), float("inf"))


class GumbelSampler:
    """Samples tokens by one set of settings, a result of `resolve_sampling`.

    The largest of the logits with noise from the Gumbel distribution is a sample from the softmax of the
    logits without it. The noise depends on nothing but the sequence's seed, the token's position in the
    output and the token's id: neither other sequences nor the last digits of the logits change it.
    """

    def __init__(self, sampling: Mapping[str, Any]) -> None:
        import transformers as library

        self.temperature = float(sampling.get("temperature", 1.0))
        self.top_k = sampling.get("top_k") or 0
        self.filters = library.LogitsProcessorList()
        if sampling.get("top_p", 1.0) < 1.0:
            self.filters.append(library.TopPLogitsWarper(sampling["top_p"]))
        if sampling.get("typical_p", 1.0) < 1.0:
            self.filters.append(library.TypicalLogitsWarper(sampling["typical_p"]))

    def __call__(self, scores: "torch.Tensor", keys: Sequence[int]) -> "torch.Tensor":
        """Return sampled ids [sequences] for logits [sequences, vocabulary], with one `noise_key` each."""
        import torch

        top_ids = None
        if 0 < self.top_k < scores.shape[-1]:
            scores, top_ids = scores.topk(self.top_k)
        if self.temperature != 1.0:
            scores = scores / self.temperature
        if self.filters:
            scores = self.filters(top_ids, scores)
        ids = torch.arange(scores.shape[-1], device=scores.device) if top_ids is None else top_ids
        best = (scores + gumbel_noise(keys, ids)).argmax(-1, keepdim=True)
        return (best if top_ids is None else top_ids.gather(-1, best)).squeeze(-1)


def noise_key(seed: int, position: int) -> int:
    """Return the 64 bits, signed, that start the noise for the token at `position` of an output."""
    return _to_signed(_mix(_mix(seed + GOLDEN) + position * GOLDEN))


def gumbel_noise(keys: Sequence[int], ids: "torch.Tensor") -> "torch.Tensor":
    """Return Gumbel noise [keys, n] for token ids, [n] or [keys, n], from SplitMix64's bits."""
    import torch

    bits = torch.tensor(keys, device=ids.device).unsqueeze(-1) + ids * _to_signed(GOLDEN)
    for shift, mask, factor in ROUNDS:
        bits = bits.bitwise_xor_((bits >> shift).bitwise_and_(mask)).mul_(_to_signed(factor))
    bits = bits.bitwise_xor_((bits >> LAST_SHIFT[0]).bitwise_and_(LAST_SHIFT[1]))
    uniform = (bits >> 11).bitwise_and_(2**53 - 1).float().mul_(2.0**-53)
    # The smallest exponential wins, and a small float keeps its digits in log1p, unlike in `-log(uniform)`.
    exponential = uniform.neg_().log1p_().neg_()
    return exponential.clamp_min_(1e-30).log_().neg_()


def _mix(bits: int) -> int:
    bits %= 2**64
    for shift, _, factor in ROUNDS:
        bits = (bits ^ (bits >> shift)) * factor % 2**64
    return bits ^ (bits >> LAST_SHIFT[0])


def _to_signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
