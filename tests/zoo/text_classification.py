"""Classifiers of texts, compared with transformers' own logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.tasks.sentiment import Sentiment, SentimentInput, SentimentParams
from tests.loaded_models import answers
from tests.zoo.checkpoints import checkpoint
from tests.zoo.comparison import Reference, Rows, check_limit, compare, ids_of, reference
from tests.zoo.families import families

MODULE = Sentiment
FAMILIES = families("SEQUENCE_CLASSIFICATION")
EXCEPTIONS = {
    "mra": "its attention needs a CUDA kernel: on a CPU transformers' own output is the same for every text",
    "layoutlmv2": "needs detectron2",
}
SETTINGS = {"id2label": {0: "zero", 1: "one", 2: "two"}, "label2id": {"zero": 0, "one": 1, "two": 2}}
WORDPIECE = {"eos_token_id": 3, "sep_token_id": 3}
UNTRUNCATED = 1000


def build(family: str) -> Path:
    return checkpoint(FAMILIES[family], family, "wordpiece", **SETTINGS, **WORDPIECE)


def check(folder: Path, engine: str, dtype: str) -> None:
    module = Sentiment()
    module.load(Checkpoint(str(folder), engine=engine, dtype=dtype))
    expected = transformers_logits(folder, "float32", module.max_length)
    half = None if dtype == "float32" else transformers_logits(folder, dtype, module.max_length)
    compare(lambda texts: logits(module, texts), expected, half)


def logits(module: Sentiment, texts: Sequence[str]) -> Rows:
    params = SentimentParams(function_to_apply="none", sort=False)
    outputs = answers(module, [SentimentInput(text=text) for text in texts], params)
    return [torch.tensor([label.score for label in output.labels]) for output in outputs]


def transformers_logits(folder: Path, dtype: str, limit: int) -> Reference:
    tokenizer: Any = hf.AutoTokenizer.from_pretrained(folder)
    network = hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

    def run(text: str, limit: int = limit) -> torch.Tensor:
        row: torch.Tensor = network(**ids_of(tokenizer, text, limit)).logits[0]
        return row

    check_limit(lambda text: run(text, UNTRUNCATED), tokenizer, limit)
    return reference(run, tokenizer, limit)
