"""How both embedding models are trained, read and described: mean-pooled vectors of length one."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from starter_models import sentence_pairs
from starter_models.training import Checkpoint, Schedule, Score, fit, wordpiece_tokenizer

LONGEST = 64
VOCABULARY = 1500
UNKNOWN_WORD, FIRST_WORD = 1, 5  # token ids: [UNK], and the first that is not special
TEMPERATURE = 0.07
BATCH = 64
SCHEDULE = Schedule(steps=1600, rate=3e-3)


def tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing tokenizer for the sentences of sentence_pairs."""
    return wordpiece_tokenizer(sentence_pairs.corpus(), VOCABULARY, LONGEST)


def train(model: PreTrainedModel, words: PreTrainedTokenizerFast) -> Checkpoint:
    """Draws paraphrases together and everything else in the batch apart (InfoNCE)."""
    rng = random.Random(sentence_pairs.TRAINING_SEED)

    def next_loss() -> torch.Tensor:
        ones, others = sentence_pairs.pairs(rng, BATCH)
        vectors = sentence_vectors(model, words, ones + others, blank=0.05)
        alike = vectors[:BATCH] @ vectors[BATCH:].T / TEMPERATURE
        wanted = torch.arange(BATCH)
        return (functional.cross_entropy(alike, wanted) + functional.cross_entropy(alike.T, wanted)) / 2

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, words, pooling_files(int(model.config.hidden_size)))


def sentence_vectors(
    model: PreTrainedModel, words: PreTrainedTokenizerFast, texts: list[str], blank: float = 0.0
) -> torch.Tensor:
    """The mean of a sentence's token vectors, scaled to length one; some words may be blanked in training."""
    batch = words(texts, padding=True, truncation=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    blanked = (torch.rand(ids.shape) < blank) & (ids >= FIRST_WORD)
    hidden = model(input_ids=ids.masked_fill(blanked, UNKNOWN_WORD), attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def pooling_files(width: int) -> dict[str, object]:
    """The files by which sentence-transformers (and whoever reads them) knows how to pool."""
    names = ("Transformer", "Pooling", "Normalize")
    folders = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(zip(names, folders, strict=True))
    ]
    modes = (
        "cls_token",
        "mean_tokens",
        "max_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
        "lasttoken",
    )
    pooling = {
        "word_embedding_dimension": width,
        **{f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes},
    }
    return {
        "modules.json": modules,
        "1_Pooling/config.json": {**pooling, "include_prompt": True},
        "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def evaluate(folder: Path) -> list[Score]:
    """Reloads a model and measures its vectors."""
    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def encode(texts: list[str]) -> torch.Tensor:
        with torch.inference_mode():
            return sentence_vectors(model, words, texts)

    return sentence_pairs.scores(encode)


PURPOSE = """
    {model} that turns a short English sentence into a vector of length one: the mean of its token vectors,
    as modules.json and 1_Pooling say. Sentences about people doing everyday things, about how things are,
    and about common requests lie close together when they mean the same.
"""
NOT_FOR = """
    Searching real documents, other languages, fine differences (who does what to whom, denial) or anything
    outside of its small world, where it mostly compares words. Texts are cut after 64 word pieces.
"""
MEASURED = """
    The generator pairs are new draws from the generator that also made the training pairs, so their parts
    have been seen. The held-out wordings of 24 requests are in no training pair. The hand-written triplets
    are easy ones (a sentence, a paraphrase, something unrelated), put down before the training data and
    never trained on.
"""
USAGE = """
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("models/{name}")
model = AutoModel.from_pretrained("models/{name}")
texts = ["A man is eating.", "Someone has a meal."]
batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
mask = batch["attention_mask"].unsqueeze(-1)
vectors = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
print(torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:]))
"""
