"""Drawing the next token: each row by its own seed, so that an answer is the same alone and in any batch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# SplitMix64: a step between inputs, then two rounds of (shift, bits that a logical shift leaves, factor).
GOLDEN = 0x9E3779B97F4A7C15
ROUNDS = ((30, 2**34 - 1, 0xBF58476D1CE4E5B9), (27, 2**37 - 1, 0x94D049BB133111EB))
LAST = (31, 2**33 - 1)


class Sampler:
    """A logits processor that leaves each row's next token, drawn by the row's own seed, as the best one.

    So `generate` stays greedy and the global random state untouched.
    """

    def __init__(self, settings: Mapping[str, Any], seeds: Sequence[int], device: Any) -> None:
        self.draw, self.seeds, self.step = Draw(settings), seeds, 0

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        drawn = self.draw(scores, [noise_key(seed, self.step) for seed in self.seeds])
        self.step += 1
        return scores.scatter(-1, drawn.unsqueeze(-1), float("inf"))


class Draw:
    """Draws tokens under one set of `settings`, as `resolve` gives them.

    Noise from the Gumbel distribution makes the largest of the noisy logits a draw from the softmax of the
    plain ones. It depends on the row's seed, the token's place in the answer and the token's id, on nothing
    else: neither the other rows nor the last digits of the logits move it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import transformers as library

        self.temperature = float(settings.get("temperature", 1.0))
        self.top_k = settings.get("top_k") or 0
        self.cuts = library.LogitsProcessorList()
        if settings.get("top_p", 1.0) < 1.0:
            self.cuts.append(library.TopPLogitsWarper(settings["top_p"]))
        if settings.get("typical_p", 1.0) < 1.0:
            self.cuts.append(library.TypicalLogitsWarper(settings["typical_p"]))

    def __call__(self, scores: "torch.Tensor", keys: Sequence[int]) -> "torch.Tensor":
        """The ids [rows] drawn from logits [rows, vocabulary], with a `noise_key` for each row."""
        import torch

        among = None
        if 0 < self.top_k < scores.shape[-1]:
            scores, among = scores.topk(self.top_k)
        if self.temperature != 1.0:
            scores = scores / self.temperature
        if self.cuts:
            scores = self.cuts(among, scores)
        ids = torch.arange(scores.shape[-1], device=scores.device) if among is None else among
        best = (scores + gumbel(keys, ids)).argmax(-1, keepdim=True)
        return (best if among is None else among.gather(-1, best)).squeeze(-1)


def noise_key(seed: int, place: int) -> int:
    """What the noise for the token at `place` of an answer begins with: 64 bits, signed."""
    return _signed(_mixed(_mixed(seed + GOLDEN) + place * GOLDEN))


def gumbel(keys: Sequence[int], ids: "torch.Tensor") -> "torch.Tensor":
    """Gumbel noise [rows, n] for token ids, [n] or [rows, n]: SplitMix64's bits, with a key for each row."""
    import torch

    bits = torch.tensor(keys, device=ids.device).unsqueeze(-1) + ids * _signed(GOLDEN)
    for shift, left, factor in ROUNDS:
        bits = bits.bitwise_xor_((bits >> shift).bitwise_and_(left)).mul_(_signed(factor))
    bits = bits.bitwise_xor_((bits >> LAST[0]).bitwise_and_(LAST[1]))
    uniform = (bits >> 11).bitwise_and_(2**53 - 1).float().mul_(2.0**-53)
    # Small waits win, and a small number keeps its digits: so not `-log(uniform)`.
    waits = uniform.neg_().log1p_().neg_()
    return waits.clamp_min_(1e-30).log_().neg_()


def _mixed(bits: int) -> int:
    bits %= 2**64
    for shift, _, factor in ROUNDS:
        bits = (bits ^ (bits >> shift)) * factor % 2**64
    return bits ^ (bits >> LAST[0])


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
