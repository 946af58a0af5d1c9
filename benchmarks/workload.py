"""Make the workload, the same on every machine: texts of mixed lengths, images, checkpoints.

The checkpoints of `checkpoints.yml` have random weights from a fixed seed. They are made once, in `.bench/`,
which git ignores. Every server in a comparison loads the same files.
"""

import hashlib
import io
import json
import math
import random
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KINDS = ROOT / "benchmarks" / "checkpoints.yml"
VERSION = hashlib.sha256(Path(__file__).read_bytes() + KINDS.read_bytes()).hexdigest()[:8]
COUNTS = {"embeddings": 1024, "classification": 256, "generation": 64, "images": 16, "noop": 256}
SEED, VOCABULARY = 20261122, 28_000  # the vocabulary: whole words that the tokenizer knows
MEDIAN_WORDS, MAX_WORDS, SPREAD = 9.0, 160, 0.8  # of a text; the spread is that of the length's logarithm
ENDINGS, UNKNOWN = ("ing", "ed", "ness", "ly", "s"), 0.12  # the share of words that the tokenizer splits
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@cache
def vocabulary() -> tuple[str, ...]:
    """Return invented words of two to four syllables, most frequent first."""
    rng = random.Random(SEED)
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        syllables = (rng.choice("bdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
        words["".join(syllables) + rng.choice(["", "n", "r", "s", "t"])] = None
    return tuple(words)


@cache
def texts(count: int) -> tuple[str, ...]:
    """Return `count` different texts of about 12 tokens at the median, 70 at p99, and 250 at most."""
    rng = random.Random(SEED + 1)
    made: dict[str, None] = {}
    while len(made) < count:
        words = round(rng.lognormvariate(math.log(MEDIAN_WORDS), SPREAD))
        made[" ".join(_word(rng) for _ in range(min(max(words, 1), MAX_WORDS))) + "."] = None
    return tuple(made)


def _word(rng: random.Random) -> str:
    word = vocabulary()[int(VOCABULARY * rng.random() ** 3)]
    return word + rng.choice(ENDINGS) if rng.random() < UNKNOWN else word


@cache
def photographs(count: int, width: int = 1600, height: int = 1200) -> tuple[bytes, ...]:
    """Return JPEGs of about a megabyte each, of blurred noise: as much detail as a photograph has."""
    from PIL import Image, ImageFilter

    rng = random.Random(SEED + 2)
    files = [io.BytesIO() for _ in range(count)]
    for file in files:
        noise = Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3))
        noise.filter(ImageFilter.GaussianBlur(0.9)).save(file, "JPEG", quality=91)
    return tuple(file.getvalue() for file in files)


def home() -> Path:
    """Return `.bench/`, which git ignores."""
    (ROOT / ".bench" / "results").mkdir(parents=True, exist_ok=True)
    return ROOT / ".bench"


def checkpoint(kind: str) -> Path:
    """Return a checkpoint's folder, with a config.yml for Roster; make it if this version is missing."""
    folder = home() / "checkpoints" / f"{kind}-{VERSION}"
    if not folder.exists():  # in a separate process: the measuring process does not import torch
        subprocess.run([sys.executable, "-m", "benchmarks.workload", kind], check=True, cwd=ROOT)
    return folder


def _make(kind: str, module_id: str, model: Any, preprocessor: Any, files: Any = ()) -> None:
    """Write a checkpoint's folder, and remove the folders of other versions."""
    folder = home() / "checkpoints" / f"{kind}-{VERSION}"
    for old in folder.parent.glob(f"{kind}-*"):
        shutil.rmtree(old)
    partial = folder.with_suffix(".partial")
    processor = _preprocessor(**preprocessor)
    processor.save_pretrained(partial)
    _model(processor, **model).save_pretrained(partial)
    for name, content in dict(files).items():
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_text(json.dumps(content))
    (partial / "config.yml").write_text(f"module_id: {module_id}\n")
    partial.rename(folder)


def _model(preprocessor: Any, **config: Any) -> Any:
    import torch
    import transformers

    model_class = getattr(transformers, config.pop("class"))
    if hasattr(preprocessor, "vocab_size"):
        config["vocab_size"] = len(preprocessor)
    torch.manual_seed(SEED)
    model = model_class(model_class.config_class(**config)).eval()
    if hasattr(model, "lm_head"):
        with torch.no_grad():  # padding and end of text are never the likeliest: outputs have full length
            model.lm_head.weight[:2] = 0.0
    return model


def _preprocessor(**options: Any) -> Any:
    import tokenizers
    import transformers

    name = options.pop("class")
    if name == "BertTokenizer":  # its vocabulary: the workload's words, and the pieces of all others
        pieces = [f"##{piece}" for piece in (*LETTERS, *ENDINGS) if piece != "s"]
        tokens = dict.fromkeys([*SPECIAL_TOKENS, *LETTERS, *pieces, "##s", *vocabulary()])
        options["vocab"] = {token: index for index, token in enumerate(tokens)}
        options["tokenizer_object"] = tokenizers.BertWordPieceTokenizer(options["vocab"])._tokenizer
    elif name == "PreTrainedTokenizerFast":
        bpe, special = tokenizers.ByteLevelBPETokenizer(), [options["pad_token"], options["eos_token"]]
        bpe.train_from_iterator(texts(4000), 4096, special_tokens=special, show_progress=False)
        options["tokenizer_object"] = bpe._tokenizer
    return getattr(transformers, name)(**options)


if __name__ == "__main__":
    _make(sys.argv[1], **yaml.safe_load(KINDS.read_text())[sys.argv[1]])
