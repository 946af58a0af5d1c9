"""Train a T5 that writes the headline of a short news item."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, TextGenerator, accuracy, mean_score
from starter_models.settings import create_model, generate_examples, generate_held_out, load_training
from starter_models.templates import fill, invented_word, load_data
from starter_models.tokenization import IGNORED_LABEL, PAD, train_byte_bpe
from starter_models.trainer import LengthBatches, fit, pad

TRAINING = load_training("summarization")
DATA = load_data("summarization")


def train() -> Checkpoint:
    """Train on news items and their headlines."""
    examples = generate_examples(make_example, TRAINING)
    texts, headlines = (list(column) for column in zip(*examples, strict=True))
    corpus = texts[:6000] + headlines[:6000]
    tokenizer = train_byte_bpe(corpus, vocab_size=1150, max_length=192, template="$A </s>", prefix_space=True)
    sources, targets = tokenizer(texts)["input_ids"], tokenizer(headlines)["input_ids"]
    batches = LengthBatches(sources, targets, TRAINING.batch_size)
    model = create_model("summarization", vocab_size=len(tokenizer))

    def next_loss() -> torch.Tensor:
        ids, headline_ids = batches.sample()
        labels = pad(headline_ids, IGNORED_LABEL)
        loss: torch.Tensor = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        return loss

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, tokenizer)


def draw_facts(rng: random.Random) -> dict[str, str]:
    """Draw the names and numbers of a news item."""
    cities = DATA["cities"]
    city, other_city = (draw_name(rng, names) for names in rng.sample([cities[::2], cities[1::2]], 2))
    number, weather = rng.choice(DATA["number"]), rng.choice(DATA["weather"])
    return {
        "city": city,
        "other_city": other_city,
        **{gap: draw_name(rng, DATA[gap]) for gap in ("first", "last")},
        "day": rng.choice(DATA["day"]),
        "company": draw_name(rng, DATA["company"]),
        "building": rng.choice(DATA["building"]),
        "number": number,
        "Number": number.capitalize(),
        "other_number": rng.choice(DATA["number"]),
        "weather": weather,
        "Weather": weather.capitalize(),
        **{gap: rng.choice(DATA[gap]) for gap in ("loot", "part")},
    }


def draw_name(rng: random.Random, known: Sequence[str]) -> str:
    """Draw a name; a third are invented, so that the model learns to copy names."""
    return rng.choice(known) if rng.random() < 0.67 else invented_word(rng).capitalize()


def make_example(rng: random.Random) -> tuple[str, str]:
    """Draw a news item with its headline; sentences that do not matter stand between those that do."""
    event, facts = rng.choice(DATA["events"]), draw_facts(rng)
    details = [rng.choice(wordings) for wordings in event["details"]]
    if rng.random() >= 0.85:
        details = [detail for detail in details if is_needed(detail, event["headline"])]
    body = [*details, *rng.sample(DATA["asides"], rng.randint(0, 2))]
    rng.shuffle(body)
    text = " ".join([rng.choice(event["openings"]), *body])
    return fill(rng, text, facts), fill(rng, event["headline"], facts)


def is_needed(detail: str, headline: str) -> bool:
    """Tell whether the headline depends on a detail."""
    gaps = [f"{{{gap}}}" for gap in ("number", "loot", "last") if gap in headline]
    return "injur" in headline.lower() or any(gap in detail.lower() for gap in gaps)


def evaluate(folder: Path) -> list[Score]:
    """Compare generated headlines with the expected ones, and the first sentence as a baseline."""
    summarize = TextGenerator(folder, AutoModelForSeq2SeqLM)
    held_out = generate_held_out(make_example, TRAINING, 300)
    hand_written = [(example["text"], example["headline"]) for example in DATA["hand_written"]]
    scores = []
    for name, examples in (("new generated news", held_out), ("hand-written news", hand_written)):
        texts, expected = (list(column) for column in zip(*examples, strict=True))
        headlines = summarize(texts)
        scores.append(accuracy(f"exact headline, {name}", headlines, expected))
        scores.append(rouge_l(f"ROUGE-L, {name}", headlines, expected))
    baseline = [text.split(".")[0] for text in texts]
    return [*scores, rouge_l("... of the first sentence instead", baseline, expected)]


def rouge_l(name: str, predictions: Sequence[str], references: Sequence[str]) -> Score:
    """Compute the mean ROUGE-L F1: the longest common subsequence of words as a share of both texts."""
    pairs = zip(predictions, references, strict=True)
    words = [(prediction.lower().split(), reference.lower().split()) for prediction, reference in pairs]
    return mean_score(name, [2 * common_length(a, b) / max(1, len(a) + len(b)) for a, b in words])


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Compute the length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for item in one:
        above, lengths = lengths, [0]
        for index, match in enumerate(other):
            lengths.append(above[index] + 1 if item == match else max(above[index + 1], lengths[index]))
    return lengths[-1]
