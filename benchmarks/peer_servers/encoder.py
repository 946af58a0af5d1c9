"""What a careful user of any of these servers writes around a model: one padded forward pass per batch.

`FOLDER` is the checkpoint, `KIND` "embeddings" or "classification". The peers share this file, so that a
comparison is one of servers. It runs in each peer's own environment and knows nothing of Roster.
"""

import os

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

FOLDER = os.environ["FOLDER"]
KIND = os.environ["KIND"]


class Encoder:
    """Texts in; for each a vector of length 1, or its labels with their scores, best first."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        auto_class = AutoModel if KIND == "embeddings" else AutoModelForSequenceClassification
        self.tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        self.model = auto_class.from_pretrained(FOLDER).eval()
        self(["warm up"])

    def __call__(self, texts: list[str]) -> list:
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            outputs = self.model(**batch)
        return _vectors(outputs, batch) if KIND == "embeddings" else self._labels(outputs)

    def _labels(self, outputs) -> list[list[dict]]:
        names = self.model.config.id2label
        rows = outputs.logits.softmax(-1).tolist()
        told = [[{"label": names[place], "score": score} for place, score in enumerate(row)] for row in rows]
        return [sorted(row, key=lambda label: -label["score"]) for row in told]


def _vectors(outputs, batch) -> list[list[float]]:
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (outputs.last_hidden_state * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=-1).tolist()
