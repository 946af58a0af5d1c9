"""Train a Llama that tells a tiny story."""

import random
import re
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, TextGenerator, mean_score
from starter_models.settings import create_model, generate_examples, load_training
from starter_models.templates import fill, load_data, to_regex
from starter_models.tokenization import EOS, PAD, train_byte_bpe
from starter_models.trainer import fit, pad

TRAINING = load_training("text_generation")
DATA = load_data("text_generation")
BOYS, GIRLS, ANIMALS = DATA["boys"], DATA["girls"], DATA["animals"]
NAMES = BOYS + GIRLS


def train() -> Checkpoint:
    """Train on whole stories and on stories that begin somewhere in the middle."""
    rng = random.Random(TRAINING.seed)
    stories = generate_examples(make_story, TRAINING)
    tokenizer = train_byte_bpe(
        stories[:6000], vocab_size=800, max_length=256, template="<s> $A", padding_side="left"
    )
    texts = [begin_anywhere(rng, story) for story in stories]
    rows = [[*ids, EOS] for ids in tokenizer(texts)["input_ids"]]
    model = create_model("text_generation", vocab_size=len(tokenizer))
    weights = token_weights(tokenizer)

    def next_loss() -> torch.Tensor:
        ids = pad(rng.sample(rows, TRAINING.batch_size))
        logits = model(input_ids=ids[:, :-1], attention_mask=(ids[:, :-1] != PAD).long()).logits
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), weights, ignore_index=PAD)

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, tokenizer)


def token_weights(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Give names and things a weight of four, because they are the hardest tokens to predict."""
    weights = torch.ones(len(tokenizer))
    for word in [*NAMES, *DATA["thing"], *DATA["look"]]:
        ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            weights[ids] = 4.0
    return weights


def begin_anywhere(rng: random.Random, text: str) -> str:
    """Drop the first sentences of every eighth story, so that the model continues other beginnings, too."""
    if rng.random() > 0.125:
        return text
    return ". ".join(text.split(". ")[rng.randint(1, 4) :])


def make_story(rng: random.Random) -> str:
    """Draw one story: a hero, a find, a feeling, a friend and an ending."""
    is_boy = rng.random() < 0.5
    parts = {
        "he": "He" if is_boy else "She",
        "name": rng.choice(BOYS if is_boy else GIRLS),
        "hero": rng.choice(ANIMALS + DATA["boy_roles" if is_boy else "girl_roles"]),
        **{gap: rng.choice(DATA[gap]) for gap in ("trait", "place", "thing", "look")},
        "feeling": rng.choice(list(DATA["feelings"])),
    }
    parts["friend"] = rng.choice([name for name in NAMES if name != parts["name"]])
    parts["visitor"] = rng.choice([animal for animal in ANIMALS if animal != parts["hero"]])
    vocabulary = {**DATA, **parts, "reaction": DATA["feelings"][parts["feeling"]]}
    opening = rng.choice([DATA["opening"][0], rng.choice(DATA["opening"])])
    home = [DATA["home"]] if "{place}" not in opening else []
    sentences = [fill(rng, template, vocabulary) for template in [opening, *home, *DATA["plan"], "{turn}"]]
    if rng.random() < 0.5:
        sentences.append(fill(rng, DATA["thanks"], vocabulary))
    return " ".join([*sentences, fill(rng, "{ending}", vocabulary)])


def story_pattern(**known: str) -> re.Pattern[str]:
    """Build the pattern of every story that follows the plan, or of those with certain names and things."""
    feelings = DATA["feelings"].items()
    vocabulary = {
        **DATA,
        "he": ["He", "She"],
        "name": NAMES,
        "friend": NAMES,
        "hero": ANIMALS + DATA["boy_roles"] + DATA["girl_roles"],
        "visitor": ANIMALS,
        "emotion": [f"{feeling} and {act}" for feeling, acts in feelings for act in acts],
        **{gap: [text] for gap, text in known.items()},
    }
    # The hero and the friend may change places where the plan does not say who is who.
    names = sorted({*vocabulary["name"], *vocabulary["friend"]})
    either = {**vocabulary, "name": names, "friend": names}
    plan = " ".join(DATA["plan"]).replace("{feeling} and {reaction}", "{emotion}")
    opening = f"{to_regex('{opening}', vocabulary)}(?: {to_regex(DATA['home'], either)})?"
    middle = to_regex(plan, vocabulary, frozenset({"name", "friend", "thing", "look"}))
    ending = f"(?:{to_regex(DATA['thanks'], vocabulary)} )?{to_regex('{ending}', either)}"
    return re.compile(f"{opening} {middle} {to_regex('{turn}', either)} {ending}")


def is_consistent(story: re.Match[str] | None) -> bool:
    """Tell whether a story follows the plan and keeps its names, pronouns and things apart."""
    if story is None or story["name"] == story["friend"]:
        return False
    pattern = story_pattern(he="He" if story["name"] in BOYS else "She", **story.groupdict())
    return pattern.fullmatch(story.string) is not None


def has_proper_end(text: str) -> bool:
    """Tell whether a text stops after one of the endings and has at most two names."""
    ending = to_regex("{ending}", {**DATA, "name": NAMES})
    names = set(re.findall(rf"\b(?:{'|'.join(NAMES)})\b", text))
    return re.search(f"{ending}$", text) is not None and len(names) <= 2


def evaluate(folder: Path) -> list[Score]:
    """Check sampled stories against the plan, and continuations of hand-written beginnings for their end."""
    generate, pattern = TextGenerator(folder), story_pattern()
    known = set(generate_examples(make_story, TRAINING))
    torch.manual_seed(TRAINING.evaluation_seed)
    stories = generate(["Once upon a time"] * 200)
    matches = [pattern.fullmatch(story) for story in stories]
    continuations = generate(DATA["hand_written"] * 10)
    results = {
        "sampled stories that follow the plan": [match is not None for match in matches],
        "... and keep names, pronouns and things apart": [is_consistent(match) for match in matches],
        "... and are not in the training set": [story not in known for story in stories],
        "hand-written beginnings with a proper end": [has_proper_end(text) for text in continuations],
    }
    return [mean_score(name, values) for name, values in results.items()]
