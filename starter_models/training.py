"""What all starter models share: tokenizers, the training loop, half-size saving and the model card."""

from __future__ import annotations

import importlib
import json
import logging
import math
import pkgutil
import random
import shutil
import string
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

MODELS_FOLDER = Path(__file__).resolve().parent.parent / "models"
IGNORED_LABEL = -100
PAD, BOS, EOS = 0, 1, 2

Batch = dict[str, torch.Tensor]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """One figure of a model card: what was measured, the result and the number of examples behind it."""

    name: str
    value: float
    count: int


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with its tokenizer or image processor and any further JSON files of its folder."""

    model: PreTrainedModel
    preprocessor: Any
    extra_files: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """The words of a model card; its scores are measured."""

    title: str
    pipeline_tag: str
    purpose: str
    not_for: str
    usage: str
    measured: str
    tags: tuple[str, ...] = ()
    library: str = "transformers"
    language: str | None = "en"


@dataclass(frozen=True)
class Starter:
    """One starter model: how it is trained, how it is scored and what its card says."""

    name: str
    module_id: str
    card: Card
    train: Callable[[], Checkpoint]
    evaluate: Callable[[Path], list[Score]]

    @property
    def folder(self) -> Path:
        """Where the finished checkpoint is committed."""
        return MODELS_FOLDER / self.name


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: linear warm-up, then a cosine down to a fiftieth of the rate."""

    steps: int
    rate: float
    decay: float = 0.01
    warmup: float = 0.05

    def rate_at(self, step: int) -> float:
        """The learning rate of one step."""
        rising = min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))
        falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * rising * (0.98 * falling + 0.02)


def words(text: str) -> list[str]:
    """A list of words, written as plain text."""
    return text.split()


def phrases(text: str) -> list[str]:
    """A list of phrases, written as plain text with bars between them."""
    return [" ".join(phrase.split()) for phrase in text.split("|")]


def invented_word(rng: random.Random) -> str:
    """A word without a meaning: what a model has never seen should not mislead it."""
    syllables = (rng.choice("bdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
    return "".join(syllables) + rng.choice(["", "n", "r", "s", "t"])


def discover() -> dict[str, Starter]:
    """Finds the starter models: every module of this package that defines STARTER is one."""
    package = importlib.import_module(__package__)
    names = [found.name for found in pkgutil.iter_modules(package.__path__) if found.name != "__main__"]
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    starters = [module.STARTER for module in modules if hasattr(module, "STARTER")]
    return {starter.name: starter for starter in starters}


def fix_seed(seed: int = 0) -> None:
    """Fixes torch's randomness (weights, dropout); the data draws from a random.Random of its own."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def fit(model: torch.nn.Module, next_loss: Callable[[], torch.Tensor], schedule: Schedule) -> None:
    """Trains for exactly schedule.steps steps, so that the result depends on the seed alone."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.rate, weight_decay=schedule.decay, betas=(0.9, 0.98)
    )
    model.train()
    started, smoothed = time.monotonic(), math.nan
    for step in range(schedule.steps):
        loss = next_loss()
        take_step(model, optimizer, loss, schedule.rate_at(step))
        smoothed = loss.item() if step == 0 else 0.98 * smoothed + 0.02 * loss.item()
        if step % 250 == 0 or step == schedule.steps - 1:
            seconds = time.monotonic() - started
            logger.info("step %d/%d  loss %.4f  %.0f s", step + 1, schedule.steps, smoothed, seconds)
    model.eval()


def take_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float
) -> None:
    """Moves the weights once along the clipped gradient."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def padded(rows: Sequence[Sequence[int]], value: int = PAD) -> torch.Tensor:
    """Stacks rows of different lengths, filling the ends with a value."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


class LengthBatches:
    """Draws batches of examples that are about equally long, so that little time goes into padding."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int = 0) -> None:
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        self._batches = [order[start : start + size] for start in range(0, len(order), size)]
        self._rng = random.Random(seed)

    def draw(self) -> list[int]:
        """The indices of one batch."""
        return self._rng.choice(self._batches)


def wordpiece_tokenizer(texts: Iterable[str], vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    """Trains a lower-casing BERT tokenizer."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=60))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    alphabet = list(string.ascii_lowercase + string.digits + string.punctuation)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True)
    )
    return wrapped(tokenizer, max_length, **names)


def byte_tokenizer(
    texts: Iterable[str],
    vocabulary: int,
    max_length: int,
    template: str | None = None,
    spaced: bool = False,
    **settings: Any,
) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer: it knows every text and decodes to exactly that text.

    The template says which special tokens the tokenizer itself puts around a text, as in "<s> $A". A spaced
    tokenizer splits the first word of a text like all the others, which makes it easier to copy.
    """
    specials = ["<pad>", "<s>", settings.get("eos_token", "</s>"), *settings.pop("more_specials", [])]
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.ByteLevel(add_prefix_space=spaced), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    if spaced:
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if template:
        numbered = [(token, index) for index, token in enumerate(specials)]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=numbered)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": specials[EOS]}
    return wrapped(tokenizer, max_length, **{**names, **settings})


def wrapped(tokenizer: Tokenizer, max_length: int, **settings: Any) -> PreTrainedTokenizerFast:
    """Makes a transformers tokenizer of a trained one."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **settings,
    )


def save(starter: Starter, checkpoint: Checkpoint, folder: Path) -> None:
    """Writes the folder of a trained model, all but its card."""
    save_half(checkpoint.model, folder)
    checkpoint.preprocessor.save_pretrained(folder)
    for name, content in checkpoint.extra_files.items():
        write_json(folder / name, content)
    (folder / "config.yml").write_text(f"module_id: {starter.module_id}\n")


def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Saves float16 tensors under a config that says float32: half the size, yet loaded in full."""
    model.half().save_pretrained(folder)
    path = folder / "config.json"
    write_json(path, {**json.loads(path.read_text()), "dtype": "float32"})


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file, with the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_card(starter: Starter, scores: Sequence[Score], folder: Path) -> None:
    """Writes the model card with the measured scores."""
    (folder / "README.md").write_text(f"{front_matter(starter.card)}\n{card_text(starter, scores)}")


def publish(finished: Path, folder: Path) -> None:
    """Puts a finished folder where it belongs, in place of the one before."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)


def front_matter(card: Card) -> str:
    """The part of a model card that the Hub reads."""
    tags = ["roster", "starter", "synthetic-data", *card.tags]
    language = [f"language: {card.language}"] if card.language else []
    lines = [
        "license: apache-2.0",
        *language,
        f"library_name: {card.library}",
        f"pipeline_tag: {card.pipeline_tag}",
    ]
    return "\n".join(["---", *lines, "tags:", *[f"- {tag}" for tag in tags], "---", ""])


def card_text(starter: Starter, scores: Sequence[Score]) -> str:
    """The part of a model card that people read."""
    card, again = starter.card, f"`python -m starter_models --evaluate {starter.name}` prints them again."
    sections = {
        "What it is": unwrapped(card.purpose),
        "What it is not for": unwrapped(card.not_for),
        "Use": f"```python\n{card.usage.strip()}\n```",
        "Held-out scores": f"{score_table(scores)}\n\n{unwrapped(card.measured)}\n\n{again}",
        "Training": unwrapped(TRAINING_NOTE.format(name=starter.name)),
    }
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"# {card.title}\n\n{body}\n"


TRAINING_NOTE = """
    Trained from scratch by `python -m starter_models {name}` in a few minutes on one core, from a fixed seed
    and only from data that the script makes itself; no pretrained weights and no outside data are in it. The
    tensors are stored as float16 and load as float32.
"""


def unwrapped(text: str) -> str:
    """A paragraph on one line, however it is wrapped in the source."""
    return " ".join(text.split())


def score_table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table, which is also what the evaluation prints."""
    rows = [f"| {score.name} | {score.value:.3f} | {score.count} |" for score in scores]
    return "\n".join(["| measure | score | n |", "|---|---|---|", *rows])
