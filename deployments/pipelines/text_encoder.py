"""From texts to vectors: the network's token vectors, pooled the way the checkpoint was trained."""

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from deployments.engines.checkpoint import Checkpoint, max_length
from deployments.engines.encoders import ENGINES
from deployments.errors import InvalidInput, ModelNotReady, out_of_memory
from deployments.pipelines.tokenization import Collator, known_tokens, token_ids

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last", "none"]

# Of one pass through the network: how many tokens it holds, and how many of them may be padding, which must
# cost less than a pass of its own. Measured on networks of 20 to 100 million weights.
CPU_PASS, GPU_PASS = (1024, 32), (16_384, 2048)

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
        self.model = checkpoint.network(AutoModel)
        if self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        if "add_pooling_layer" in signature(type(self.model).__init__).parameters:
            self.model.pooler = None  # it takes time, and `_pool` does not look at it
        self.collate = Collator(self.tokenizer, known_tokens(self.model))
        self.padding_cost = ENGINES[checkpoint.engine](self.model)
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
        pooling = checkpoint.json(f"{kinds['Pooling']}/config.json") if "Pooling" in kinds else {}
        self.pooling = _pooling(pooling)
        prompts = checkpoint.json("config_sentence_transformers.json") or {}
        self.prompts: dict[str, str] = prompts.get("prompts") or {}
        if any(self.prompts.values()) and not pooling.get("include_prompt", True):
            raise ModelNotReady(f"{checkpoint.name!r} pools without its prompts, which is not supported here")
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
        return token_ids(self.tokenizer, texts, self.max_length, truncate=truncate, side=side)

    def vectors(self, ids: Sequence[Sequence[int]], pooling: Pooling | None = None) -> "torch.Tensor":
        """One vector per text, in one pass: float32 on the CPU, (texts, size)."""
        states, mask = self._forward(ids)
        return _pool(states, mask, pooling or self.pooling).cpu()

    def token_vectors(self, ids: Sequence[Sequence[int]]) -> list["torch.Tensor"]:
        """One vector per token, in one pass: float32 on the CPU, (tokens, size) of each text."""
        states, mask = self._forward(ids)
        return [rows[kept] for rows, kept in zip(states.cpu(), mask.bool().cpu(), strict=True)]

    def vectors_of_many(self, ids: Sequence[Sequence[int]]) -> "torch.Tensor":
        """As `vectors`, in as many passes as it takes: texts of similar length share one."""
        import torch

        most, padding = CPU_PASS if self.model.device.type == "cpu" else GPU_PASS
        passes = list(_passes([len(one) for one in ids], most, padding / self.padding_cost))
        vectors = torch.cat([self._halved([ids[place] for place in places]) for places in passes])
        order = torch.tensor([place for places in passes for place in places])
        return vectors[order.argsort()]

    def _halved(self, ids: Sequence[Sequence[int]]) -> "torch.Tensor":
        """As `vectors`, in more passes where memory is short."""
        import torch

        try:
            return self.vectors(ids)
        except Exception as error:
            if len(ids) == 1 or not out_of_memory(error):
                raise
        # Out here the error is gone, and with it the tensors that its traceback held.
        half = len(ids) // 2
        return torch.cat([self._halved(ids[:half]), self._halved(ids[half:])])

    def _forward(self, ids: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        batch = self.collate(ids, self.model.device)
        with torch.inference_mode():
            return self.model(**batch).last_hidden_state.float(), batch["attention_mask"]


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


def _passes(lengths: list[int], most: int, most_padding: float) -> Iterator[list[int]]:
    """Places of texts, shortest first, as many as fit into one pass."""
    places: list[int] = []
    padding = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        size = lengths[place]
        padding += len(places) * (size - lengths[places[-1]]) if places else 0
        if places and ((len(places) + 1) * size > most or padding > most_padding):
            yield places
            places, padding = [], 0
        places.append(place)
    yield places


def _pool(states: "torch.Tensor", mask: "torch.Tensor", pooling: Pooling) -> "torch.Tensor":
    lengths = mask.sum(1)
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[range(len(states)), lengths - 1]
    shares = mask / lengths.unsqueeze(1)
    return (shares.unsqueeze(1) @ states).squeeze(1)
