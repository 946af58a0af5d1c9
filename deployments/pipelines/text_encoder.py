"""Text encoders: the network's token vectors, pooled the way the checkpoint was trained."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from deployments.engines.architectures import BASE, ENCODERS
from deployments.engines.checkpoint import Checkpoint
from deployments.engines.encoders import ENGINES
from deployments.engines.positions import max_length
from deployments.errors import InvalidInput, ModelNotReady, out_of_memory
from deployments.pipelines.pooling import pool
from deployments.pipelines.sentence_config import read_sentence_config
from deployments.pipelines.tokenization import Collator, TokenIds, token_ids

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls", "last", "none"]

# Tokens per forward pass, and how many of them may be padding: padding must cost less than another pass.
# Measured on networks of 20 to 100 million weights.
CPU_PASS, GPU_PASS = (1024, 32), (16_384, 2048)

NETWORK_KINDS = (BASE, *ENCODERS, "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM")  # all have vectors of tokens


class TextEncoder:
    """A loaded text encoder with its sentence-transformers configuration.

    `config` is the checkpoint's; without one, vectors are mean-pooled. `size` is the size of the vectors.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = read_sentence_config(checkpoint)
        checkpoint = replace(checkpoint, subfolder=self.config.subfolder)
        # Networks count positions from the left, so padding on the right does not change them.
        self.tokenizer = checkpoint.tokenizer(padding_side="right")
        if self.config.lowercase:
            _lowercase_first(self.tokenizer)
        self.model = _network(checkpoint)
        self.collate = Collator(self.tokenizer, self.model)
        self.padding_cost = ENGINES[checkpoint.engine](self.model)
        limits = max_length(self.tokenizer, self.model), self.config.max_length
        self.max_length: int = min(limit for limit in limits if limit)
        self.token_size: int = self.model.config.get_text_config().hidden_size
        self.size = self.config.size or self.token_size * len(self.config.poolings)

    def prompt(self, name: str | None) -> str:
        """Return the prompt that precedes each input: by name, or the checkpoint's default."""
        name = name or self.config.default_prompt
        if name and name not in self.config.prompts:
            raise InvalidInput(f"this model has no prompt {name!r}, only {sorted(self.config.prompts)}")
        return self.config.prompts[name] if name else ""

    def prompt_length(self, name: str | None) -> int:
        """Return how many tokens at the start of each input are not pooled: those of its prompt, or none."""
        if self.config.pools_prompt or not (prompt := self.prompt(name)):
            return 0
        encoding = self.tokenizer(prompt, return_special_tokens_mask=True, verbose=False)
        return len(encoding["input_ids"]) - int(encoding["special_tokens_mask"][-1])

    def check_pooling(self, pooling: Pooling | None) -> None:
        """Raise `InvalidInput` for a pooling that the layers after the checkpoint's own do not fit."""
        if pooling not in (None, "none") and self.config.layers and (pooling,) != self.config.poolings:
            own = " and ".join(self.config.poolings)
            raise InvalidInput(f"the layers of this model follow the pooling {own!r} only", field="pooling")

    def tokenize(self, texts: Sequence[str], side: str = "right", truncate: bool = True) -> list[TokenIds]:
        """Return each text's token ids, without padding; too long a text is truncated on `side`."""
        return token_ids(self.tokenizer, texts, self.max_length, truncate=truncate, side=side)

    def vectors(
        self, ids: Sequence[Sequence[int]], pooling: Pooling | None = None, skip: int = 0
    ) -> "torch.Tensor":
        """Return one vector per text, from one pass: float32 on the CPU, (texts, size).

        The first `skip` tokens of each text, its prompt, are not pooled. Raises `InvalidInput` for a text
        that has no others.
        """
        if any(len(row) <= skip for row in ids):
            raise InvalidInput("the model reads no token of the text after its prompt")
        states, mask = self._forward(ids)
        vectors = pool(states, mask, (pooling,) if pooling else self.config.poolings, skip).cpu()
        for layer in self.config.layers:
            vectors = layer(vectors)
        return vectors

    def token_vectors(self, ids: Sequence[Sequence[int]]) -> list["torch.Tensor"]:
        """Return one vector per token, from one pass: float32 on the CPU, (tokens, size) for each text."""
        states, mask = self._forward(ids)
        return [vectors[real] for vectors, real in zip(states.cpu(), mask.bool().cpu(), strict=True)]

    def vectors_in_passes(self, ids: Sequence[Sequence[int]], skip: int = 0) -> "torch.Tensor":
        """Return `vectors` from as many passes as needed; texts of similar length share a pass."""
        import torch

        max_tokens, max_padding = CPU_PASS if self.model.device.type == "cpu" else GPU_PASS
        passes = list(_length_groups([len(row) for row in ids], max_tokens, max_padding / self.padding_cost))
        vectors = torch.cat(
            [self._retry_in_halves([ids[index] for index in group], skip) for group in passes]
        )
        order = torch.tensor([index for group in passes for index in group])
        return vectors[order.argsort()]

    def _retry_in_halves(self, ids: Sequence[Sequence[int]], skip: int) -> "torch.Tensor":
        """Return `vectors`; if memory runs out, run each half in its own pass."""
        import torch

        try:
            return self.vectors(ids, skip=skip)
        except Exception as error:
            if len(ids) == 1 or not out_of_memory(error):
                raise
        # Outside the handler the traceback no longer holds the tensors of the failed pass.
        half = len(ids) // 2
        return torch.cat([self._retry_in_halves(part, skip) for part in (ids[:half], ids[half:])])

    def _forward(self, ids: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        batch = self.collate(ids, self.model.device)
        with torch.inference_mode():
            return self.model(**batch).last_hidden_state.float(), batch["attention_mask"]


def _network(checkpoint: Checkpoint) -> Any:
    """Load the network without its head; of an encoder and a decoder, the encoder only."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    config = checkpoint.from_pretrained(AutoConfig)
    has_encoder_class = config.model_type in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES and not _is_split(config)
    model = checkpoint.network(AutoModelForTextEncoding if has_encoder_class else AutoModel)
    if model.config.is_encoder_decoder and not has_encoder_class:
        model = model.get_encoder()
        if not hasattr(model, "config"):
            raise ModelNotReady(f"the encoder of a network of type {config.model_type!r} does not run alone")
    if "add_pooling_layer" in signature(type(model).__init__).parameters:
        model.pooler = None  # it takes time, and no pooling uses it
    model.config.get_text_config().use_cache = False  # of keys and values, which only generation needs
    return model


def _is_split(config: Any) -> bool:
    """Return whether encoder and decoder have separate configs: then no class loads the encoder alone."""
    return config.is_encoder_decoder and "encoder" in config.sub_configs


def _lowercase_first(tokenizer: Any) -> None:
    """Lower texts before the tokenizer's own normalization, as sentence-transformers does."""
    from tokenizers import normalizers

    if not tokenizer.is_fast:
        raise ModelNotReady("the checkpoint lowers texts (`do_lower_case`), which needs a fast tokenizer")
    backend = tokenizer.backend_tokenizer
    own = [backend.normalizer] if backend.normalizer else []
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])


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
