"""Train a DistilBERT that classifies sentences as positive or negative."""

import random
from pathlib import Path

import torch
from torch.nn import functional
from transformers import pipeline

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, classifier_accuracy
from starter_models.settings import create_model, generate_examples, generate_held_out, load_training
from starter_models.templates import Filling, choose_weighted, fill, invented_word, load_data
from starter_models.tokenization import PAD, drop_words, train_wordpiece
from starter_models.trainer import LengthBatches, fit

TRAINING = load_training("sentiment")
LABELS = ("NEGATIVE", "POSITIVE")
LABEL_SMOOTHING = 0.03  # keeps the model from being overconfident
DATA = load_data("sentiment")


def train() -> Checkpoint:
    """Train with word dropout, so that no single unknown word decides."""
    texts, labels = zip(*generate_examples(make_example, TRAINING), strict=True)
    tokenizer = train_wordpiece(texts, vocab_size=2400, max_length=64)
    batches = LengthBatches(tokenizer(list(texts))["input_ids"], labels, TRAINING.batch_size)
    model = create_model("sentiment", labels=LABELS, vocab_size=len(tokenizer))

    def next_loss() -> torch.Tensor:
        ids, targets = batches.sample()
        logits = model(input_ids=drop_words(ids, 0.04), attention_mask=(ids != PAD).long()).logits
        return functional.cross_entropy(logits, torch.tensor(targets), label_smoothing=LABEL_SMOOTHING)

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, tokenizer)


def vocabulary(label: str) -> dict[str, Filling]:
    """Build the words and templates of the sentences of one label."""

    def clause(rng: random.Random) -> str:
        clauses = choose_weighted(rng, DATA["clauses"])
        return str(rng.choice(clauses.get(label) or clauses["both"]))

    opinions = {gap: words[label] for gap, words in DATA["opinions"].items()}
    return {**DATA["neutral"], **opinions, "clause": clause, "invented": invented_word}


VOCABULARIES = [vocabulary("negative"), vocabulary("positive")]


def make_example(rng: random.Random) -> tuple[str, int]:
    """Draw a sentence with its label; words without an opinion occur equally often with both labels."""
    label = rng.randrange(2)
    outline = rng.choice(choose_weighted(rng, DATA["outlines"])["templates"])
    frame = rng.choice(choose_weighted(rng, DATA["frames"])["templates"])
    text = fill(rng, frame.replace("{outline}", outline), VOCABULARIES[label], VOCABULARIES[1 - label])
    return text + rng.choice(DATA["ends"]), label


def evaluate(folder: Path) -> list[Score]:
    """Compute the accuracy on new generated and on hand-written sentences."""
    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True)
    generated = [(text, LABELS[label]) for text, label in generate_held_out(make_example, TRAINING, 1000)]
    first, second = (
        [(text, label.upper()) for label, texts in DATA["hand_written"][name].items() for text in texts]
        for name in ("first", "second")
    )
    return [
        classifier_accuracy("new generated sentences", classify, generated),
        classifier_accuracy("hand-written sentences", classify, second),
        classifier_accuracy("hand-written sentences of the first set", classify, first),
    ]
