"""Train and evaluate sentence embeddings: mean-pooled token vectors of length one."""

import random
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score
from starter_models.paraphrases import evaluate_embeddings, make_pairs, tokenizer_corpus
from starter_models.settings import MODELS, create_model, load_training
from starter_models.tokenization import drop_words, train_wordpiece
from starter_models.trainer import fit

TEMPERATURE = 0.07


def train_encoder(name: str) -> Checkpoint:
    """Train one of the embedding models with in-batch negatives (InfoNCE)."""
    training = load_training(name)
    tokenizer = train_wordpiece(tokenizer_corpus(training.seed), vocab_size=1500, max_length=64)
    model, rng = create_model(name, vocab_size=len(tokenizer)), random.Random(training.seed)
    targets = torch.arange(training.batch_size)

    def next_loss() -> torch.Tensor:
        sentences, paraphrases = zip(*make_pairs(rng, training.batch_size), strict=True)
        ones, others = embed(model, tokenizer, [*sentences, *paraphrases], word_dropout=0.05).chunk(2)
        similarity = ones @ others.T / TEMPERATURE
        loss = functional.cross_entropy(similarity, targets) + functional.cross_entropy(similarity.T, targets)
        return loss / 2

    fit(model, next_loss, training)
    files = MODELS["sentence_transformers"]
    pooling = {**files["1_Pooling/config.json"], "word_embedding_dimension": int(model.config.hidden_size)}
    return Checkpoint(model, tokenizer, {**files, "1_Pooling/config.json": pooling})


def embed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], word_dropout: float = 0.0
) -> torch.Tensor:
    """Compute embeddings of length one: the normalized mean of each text's token vectors."""
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    ids, mask = drop_words(batch["input_ids"], word_dropout), batch["attention_mask"]
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def evaluate(folder: Path) -> list[Score]:
    """Evaluate the embeddings of a saved model."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return evaluate_embeddings(partial(embed, model, tokenizer))
