"""A model as careful users of these servers wrap it: one padded forward pass per batch.

The peers share this file, so that a comparison is one of servers. It runs in each peer's own environment.
"""

import os

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

FOLDER = os.environ["FOLDER"]
KIND = os.environ["KIND"]  # "embeddings" or "classification"


class Encoder:
    """Return for each text a vector of length 1, or its labels with their scores, best first."""

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
        if KIND == "embeddings":
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = (outputs.last_hidden_state * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(pooled, dim=-1).tolist()
        names = self.model.config.id2label
        rows = [
            sorted(enumerate(row), key=lambda pair: -pair[1]) for row in outputs.logits.softmax(-1).tolist()
        ]
        return [[{"label": names[index], "score": score} for index, score in row] for row in rows]
