"""Text encoders, compared with the vectors that transformers' own network gives each token of a text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.tasks.embeddings import Embeddings, EmbeddingsInput, EmbeddingsParams
from tests.loaded_models import answers
from tests.zoo.checkpoints import checkpoint
from tests.zoo.comparison import Reference, Rows, check_limit, compare, ids_of, reference
from tests.zoo.families import base_families

MODULE = Embeddings
FAMILIES = base_families(
    "TEXT_ENCODING", "MASKED_LM", "SEQUENCE_CLASSIFICATION", "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM"
)
EXCEPTIONS = {
    "gemma3n": "needs timm",
    "layoutlmv2": "needs detectron2",
    "qwen4_exp_text": "a small config of it does not run",
    "xlstm": "a small config of it does not run",
    "prophetnet": "reads texts over its limit too, with the last position for all tokens there",
    "perceiver": "its base network reads vectors, not token ids",
}
WORDPIECE = {"eos_token_id": 3, "sep_token_id": 3}
UNTRUNCATED = 1000


def build(family: str) -> Path:
    return checkpoint(FAMILIES[family], family, "wordpiece", **WORDPIECE)


def check(folder: Path, engine: str, dtype: str) -> None:
    module = Embeddings()
    module.load(Checkpoint(str(folder), engine=engine, dtype=dtype))
    expected = transformers_vectors(folder, "float32", module.max_length)
    half = None if dtype == "float32" else transformers_vectors(folder, dtype, module.max_length)
    compare(lambda texts: vectors(module, texts), expected, half)


def vectors(module: Embeddings, texts: Sequence[str]) -> Rows:
    """Return each text's vector, followed by those of its tokens."""
    inputs = [EmbeddingsInput(text=text) for text in texts]
    pooled = answers(module, inputs, EmbeddingsParams(normalize=False))
    tokens = answers(module, inputs, EmbeddingsParams(normalize=False, pooling="none"))
    return [
        torch.tensor([one.embedding, *(token.values for token in many.tokens)])
        for one, many in zip(pooled, tokens, strict=True)
    ]


def transformers_vectors(folder: Path, dtype: str, limit: int) -> Reference:
    tokenizer: Any = hf.AutoTokenizer.from_pretrained(folder)
    network = hf.AutoModel.from_pretrained(folder, dtype=dtype).eval()
    if network.config.is_encoder_decoder:
        network = network.get_encoder()

    def run(text: str, limit: int = limit) -> torch.Tensor:
        states = network(**ids_of(tokenizer, text, limit)).last_hidden_state[0].float()
        return torch.cat([states.mean(0, keepdim=True), states])

    check_limit(lambda text: run(text, UNTRUNCATED), tokenizer, limit)
    return reference(run, tokenizer, limit)
