"""From texts to vectors: the network's token vectors, pooled the way the checkpoint was trained."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deployments.checkpoint import Checkpoint, max_length, refuse_longer
from deployments.errors import InvalidInput, ModelNotReady

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last", "none"]

MAX_PADDED_TOKENS = 16_384  # of one pass through the network

# sentence-transformers' 1_Pooling/config.json says one of these, in its older or its newer spelling.
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}


class TextEncoder:
    """A loaded text encoder, with what sentence-transformers' files in the checkpoint say about it.

    `pooling` and `normalize` are the checkpoint's own; a checkpoint that says nothing is mean-pooled.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        # Networks count positions from the left, so padding on the right leaves them as they are.
        self.tokenizer = checkpoint.tokenizer(padding_side="right")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = checkpoint.network(AutoModel)
        if self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        self._read_recipe(checkpoint)

    def _read_recipe(self, checkpoint: Checkpoint) -> None:
        modules = checkpoint.json("modules.json") or []
        kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
        unknown = kinds.keys() - {"Transformer", "Pooling", "Normalize"}
        if unknown:
            raise ModelNotReady(
                f"{checkpoint.name!r} has layers that are not supported here: {sorted(unknown)}"
            )
        self.normalize = "Normalize" in kinds
        self.pooling = (
            _pooling(checkpoint.json(f"{kinds['Pooling']}/config.json")) if "Pooling" in kinds else "mean"
        )
        prompts = checkpoint.json("config_sentence_transformers.json") or {}
        self.prompts: dict[str, str] = prompts.get("prompts") or {}
        self.default_prompt: str | None = prompts.get("default_prompt_name")
        recipe = checkpoint.json("sentence_bert_config.json") or {}
        limits = (max_length(self.tokenizer, self.model.config), recipe.get("max_seq_length"))
        self.max_length: int = min(limit for limit in limits if limit)

    def prompt(self, name: str | None) -> str:
        """The text that goes before each input: the prompt of that name, or the checkpoint's default."""
        name = name or self.default_prompt
        if name and name not in self.prompts:
            raise InvalidInput(f"this model has no prompt {name!r}, only {sorted(self.prompts)}")
        return self.prompts[name] if name else ""

    def tokenize(self, texts: Sequence[str], side: str = "right", truncate: bool = True) -> list[list[int]]:
        """Each text's token ids, without padding; `side` is where too long a text loses its rest."""
        self.tokenizer.truncation_side = side
        ids: list[list[int]] = self.tokenizer(
            list(texts), truncation=truncate, max_length=self.max_length if truncate else None, verbose=False
        )["input_ids"]
        if not all(ids):
            raise InvalidInput("the text has no tokens for this model")
        refuse_longer(ids, self.max_length)
        return ids

    def encode(self, ids: Sequence[Sequence[int]], pooling: Pooling | None = None) -> list["torch.Tensor"]:
        """One float32 vector per text on the CPU, or with pooling "none" a matrix with one row per token.

        Texts of similar length go through the network together, however many there are.
        """
        vectors: dict[int, torch.Tensor] = {}
        for places in _batches([len(one) for one in ids]):
            pooled = self._forward([ids[place] for place in places], pooling or self.pooling)
            vectors.update(zip(places, pooled, strict=True))
        return [vectors[place] for place in range(len(ids))]

    def _forward(self, ids: list[Sequence[int]], pooling: Pooling) -> list["torch.Tensor"]:
        import torch

        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt", verbose=False)
        batch = batch.to(self.model.device)
        with torch.inference_mode():
            states = self.model(**batch).last_hidden_state.float()
            if pooling != "none":
                return list(_pool(states, batch["attention_mask"], pooling).cpu())
        return [matrix[: len(one)] for matrix, one in zip(states.cpu(), ids, strict=True)]


def unit(vectors: "torch.Tensor") -> "torch.Tensor":
    """The vectors scaled to length 1."""
    from torch.nn.functional import normalize

    return normalize(vectors, dim=-1)


def _pooling(config: dict[str, Any]) -> Pooling:
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    chosen = chosen or [config.get("pooling_mode", "mean")]
    if len(chosen) > 1 or chosen[0] not in POOLINGS:
        raise ModelNotReady(f"the checkpoint is pooled by {chosen}, which is not supported here")
    return POOLINGS[chosen[0]]


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Places of texts, at most twice as long as the shortest among them, as many as fit into one pass."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        size = lengths[place]
        if batch and ((len(batch) + 1) * size > MAX_PADDED_TOKENS or size > 2 * max(lengths[batch[0]], 16)):
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _pool(states: "torch.Tensor", mask: "torch.Tensor", pooling: Pooling) -> "torch.Tensor":
    lengths = mask.sum(1)
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[range(len(states)), lengths - 1]
    return (states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)
