"""The workload: made-up texts of mixed lengths, mostly short, and pictures; the same on every machine."""

import io
import math
import random
from functools import cache

SEED = 20261122
VOCABULARY = 28_000  # whole words that the tokenizer knows
MEDIAN_WORDS = 9.0
SPREAD = 0.8  # of the logarithm of a text's length
MOST_WORDS = 160
ENDINGS = ("ing", "ed", "ness", "ly", "s")
UNKNOWN = 0.12  # the share of words that the tokenizer takes apart


@cache
def vocabulary() -> tuple[str, ...]:
    """Invented words of two to four syllables, commonest first."""
    rng = random.Random(SEED)
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        syllables = (rng.choice("bdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
        words["".join(syllables) + rng.choice(["", "n", "r", "s", "t"])] = None
    return tuple(words)


@cache
def texts(count: int) -> tuple[str, ...]:
    """`count` different texts: about 12 tokens in the middle, one in a hundred over 70, none over 250."""
    rng = random.Random(SEED + 1)
    made: dict[str, None] = {}
    while len(made) < count:
        words = round(rng.lognormvariate(math.log(MEDIAN_WORDS), SPREAD))
        made[" ".join(_word(rng) for _ in range(min(max(words, 1), MOST_WORDS))) + "."] = None
    return tuple(made)


def _word(rng: random.Random) -> str:
    known = vocabulary()
    word = known[int(len(known) * rng.random() ** 3)]
    return word + rng.choice(ENDINGS) if rng.random() < UNKNOWN else word


@cache
def photographs(count: int, width: int = 1600, height: int = 1200) -> tuple[bytes, ...]:
    """JPEGs of about a megabyte each, of blurred noise: as much detail as a photograph has."""
    from PIL import Image, ImageFilter

    rng = random.Random(SEED + 2)
    made = []
    for _ in range(count):
        noise = Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3))
        picture = noise.filter(ImageFilter.GaussianBlur(0.9))
        made.append(_encoded(picture))
    return tuple(made)


def _encoded(picture: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=91)  # type: ignore[attr-defined]
    return file.getvalue()
