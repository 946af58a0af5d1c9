"""Text encoders: the network's token vectors, pooled the way the checkpoint was trained."""

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from deployments.engines.checkpoint import Checkpoint, max_length
from deployments.engines.encoders import ENGINES
from deployments.errors import InvalidInput, ModelNotReady, out_of_memory
from deployments.pipelines.tokenization import Collator, token_ids, vocabulary_size

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last", "none"]

# Tokens per forward pass, and how many of them may be padding: padding must cost less than another pass.
# Measured on networks of 20 to 100 million weights.
CPU_PASS, GPU_PASS = (1024, 32), (16_384, 2048)

# The values in sentence-transformers' 1_Pooling/config.json, in the older and the newer spelling.
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}


class TextEncoder:
    """A loaded text encoder with its sentence-transformers configuration.

    `pooling` and `normalize` are the checkpoint's; without a configuration, vectors are mean-pooled.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModel

        # Networks count positions from the left, so padding on the right does not change them.
        self.tokenizer = checkpoint.tokenizer(padding_side="right")
        self.model = checkpoint.network(AutoModel)
        if self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        if "add_pooling_layer" in signature(type(self.model).__init__).parameters:
            self.model.pooler = None  # it takes time, and `_pool` does not use it
        self.collate = Collator(self.tokenizer, vocabulary_size(self.model))
        self.padding_cost = ENGINES[checkpoint.engine](self.model)
        self._load_pooling_config(checkpoint)

    def _load_pooling_config(self, checkpoint: Checkpoint) -> None:
        modules = checkpoint.json("modules.json") or []
        types = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
        unsupported = types.keys() - {"Transformer", "Pooling", "Normalize"}
        if unsupported:
            raise ModelNotReady(
                f"{checkpoint.name!r} has layers that are not supported: {sorted(unsupported)}"
            )
        self.normalize = "Normalize" in types
        pooling_config = checkpoint.json(f"{types['Pooling']}/config.json") if "Pooling" in types else {}
        self.pooling = _pooling(pooling_config)
        prompts = checkpoint.json("config_sentence_transformers.json") or {}
        self.prompts: dict[str, str] = prompts.get("prompts") or {}
        if any(self.prompts.values()) and not pooling_config.get("include_prompt", True):
            raise ModelNotReady(f"{checkpoint.name!r} excludes prompts from pooling, which is not supported")
        self.default_prompt: str | None = prompts.get("default_prompt_name")
        transformer_config = checkpoint.json("sentence_bert_config.json") or {}
        limits = (max_length(self.tokenizer, self.model.config), transformer_config.get("max_seq_length"))
        self.max_length: int = min(limit for limit in limits if limit)

    def prompt(self, name: str | None) -> str:
        """Return the prompt that precedes each input: by name, or the checkpoint's default."""
        name = name or self.default_prompt
        if name and name not in self.prompts:
            raise InvalidInput(f"this model has no prompt {name!r}, only {sorted(self.prompts)}")
        return self.prompts[name] if name else ""

    def tokenize(self, texts: Sequence[str], side: str = "right", truncate: bool = True) -> list[list[int]]:
        """Return each text's token ids, without padding; too long a text is truncated on `side`."""
        return token_ids(self.tokenizer, texts, self.max_length, truncate=truncate, side=side)

    def vectors(self, ids: Sequence[Sequence[int]], pooling: Pooling | None = None) -> "torch.Tensor":
        """Return one vector per text, from one pass: float32 on the CPU, (texts, size)."""
        states, mask = self._forward(ids)
        return _pool(states, mask, pooling or self.pooling).cpu()

    def token_vectors(self, ids: Sequence[Sequence[int]]) -> list["torch.Tensor"]:
        """Return one vector per token, from one pass: float32 on the CPU, (tokens, size) for each text."""
        states, mask = self._forward(ids)
        return [vectors[real] for vectors, real in zip(states.cpu(), mask.bool().cpu(), strict=True)]

    def vectors_in_passes(self, ids: Sequence[Sequence[int]]) -> "torch.Tensor":
        """Return `vectors` from as many passes as needed; texts of similar length share a pass."""
        import torch

        max_tokens, max_padding = CPU_PASS if self.model.device.type == "cpu" else GPU_PASS
        passes = list(_length_groups([len(row) for row in ids], max_tokens, max_padding / self.padding_cost))
        vectors = torch.cat([self._retry_in_halves([ids[index] for index in indices]) for indices in passes])
        order = torch.tensor([index for indices in passes for index in indices])
        return vectors[order.argsort()]

    def _retry_in_halves(self, ids: Sequence[Sequence[int]]) -> "torch.Tensor":
        """Return `vectors`; if memory runs out, run each half in its own pass."""
        import torch

        try:
            return self.vectors(ids)
        except Exception as error:
            if len(ids) == 1 or not out_of_memory(error):
                raise
        # Outside the handler the traceback no longer holds the tensors of the failed pass.
        half = len(ids) // 2
        return torch.cat([self._retry_in_halves(ids[:half]), self._retry_in_halves(ids[half:])])

    def _forward(self, ids: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        batch = self.collate(ids, self.model.device)
        with torch.inference_mode():
            return self.model(**batch).last_hidden_state.float(), batch["attention_mask"]


def normalize(vectors: "torch.Tensor") -> "torch.Tensor":
    """Scale the vectors to length 1."""
    from torch.nn import functional

    return functional.normalize(vectors, dim=-1)


def _pooling(config: dict[str, Any]) -> Pooling:
    modes = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    modes = modes or [config.get("pooling_mode", "mean")]
    if len(modes) > 1 or modes[0] not in POOLINGS:
        raise ModelNotReady(f"the checkpoint is pooled by {modes}, which is not supported")
    return POOLINGS[modes[0]]


def _length_groups(lengths: list[int], max_tokens: int, max_padding: float) -> Iterator[list[int]]:
    """Yield the indices of texts for each pass, shortest texts first."""
    group: list[int] = []
    padding = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        padding += len(group) * (length - lengths[group[-1]]) if group else 0
        if group and ((len(group) + 1) * length > max_tokens or padding > max_padding):
            yield group
            group, padding = [], 0
        group.append(index)
    yield group


def _pool(states: "torch.Tensor", mask: "torch.Tensor", pooling: Pooling) -> "torch.Tensor":
    lengths = mask.sum(1)
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[range(len(states)), lengths - 1]
    weights = mask / lengths.unsqueeze(1)
    return (weights.unsqueeze(1) @ states).squeeze(1)
