"""A Llama that tells a tiny story."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from starter_models.training import (
    BOS,
    EOS,
    PAD,
    Card,
    Checkpoint,
    Schedule,
    Score,
    Starter,
    byte_tokenizer,
    fit,
    padded,
    words,
)

LONGEST = 256
SCHEDULE = Schedule(steps=2400, rate=5e-3)
TRAINING_SEED, SAMPLING_SEED = 0, 5
STORIES, BATCH = 24_000, 20

BOYS = words("""
    Tom Max Leo Sam Ben Oscar Finn Jack Theo Hugo Adam Alex Bob Charlie David George Harry John Luke Nick
    Paul Peter Tim Will
""")
GIRLS = words("""
    Mia Lily Anna Ruby Zoe Emma Lucy Nora Ella Rosa Alice Amy Bella Clara Daisy Eva Grace Jane Julia Kate
    Lisa Maria Molly Sara
""")
NAMES = BOYS + GIRLS
ANIMALS = words("""
    fox rabbit bear cat dog mouse goat frog duck pig pony hedgehog squirrel turtle penguin bird wolf lion
""")
BOY_HEROES = [*ANIMALS, "boy", "king", "prince", "robot", "dragon", "knight", "farmer", "wizard"]
GIRL_HEROES = [*ANIMALS, "girl", "queen", "princess", "robot", "dragon", "farmer", "fairy", "witch"]
HEROES = sorted({*BOY_HEROES, *GIRL_HEROES})
TRAITS = words("little brave kind clever shy happy sleepy curious gentle funny young small big lonely")
PLACES = [
    "the forest",
    "a small village",
    "a big garden",
    "a warm cave",
    "an old barn",
    "a tall castle",
    "a green meadow",
    "a cozy cottage",
    "a quiet valley",
    "a house by the river",
]
HOBBIES = [
    "sing songs",
    "read books",
    "bake bread",
    "climb trees",
    "look at the stars",
    "swim in the pond",
    "paint pictures",
    "dance in the rain",
    "tell stories",
    "play the drum",
]
THINGS = words("key lamp map ball box ring feather stone hat bell")
LOOKS = words("golden shiny tiny red blue broken magic heavy strange lost")
FEELINGS = {
    "happy": ["smiled", "laughed", "danced with joy"],
    "sad": ["cried", "sighed", "sat down quietly"],
    "scared": ["ran home", "hid under a bush", "called for help"],
    "surprised": ["jumped up", "gasped", "looked again"],
    "proud": ["stood tall", "told everyone", "smiled all day"],
}
TIMES = ["One day", "One morning", "One sunny afternoon", "One rainy day", "One cold winter night"]
FINDINGS = ["found", "saw", "picked up", "discovered"]
QUESTIONS = ["Is that your", "What a nice", "May I see the", "Where did you find that"]
OPENINGS = [
    "Once upon a time, there was a {trait} {hero} named {name}.",
    "Once upon a time, there was a {trait} {hero} called {name}.",
    "Once upon a time there was a {trait} {hero} named {name}.",
    "Once upon a time there lived a {trait} {hero} named {name}.",
    "Once upon a time, a {trait} {hero} named {name} lived in {place}.",
    "Once upon a time, there was a {hero} named {name}.",
    "Once upon a time, {name} the {hero} lived in {place}.",
    "Once there was a {trait} {hero} named {name}.",
    "There once was a {trait} {hero} named {name}.",
    "There was a {trait} {hero} named {name}.",
    "Long ago, there was a {trait} {hero} named {name}.",
    "A {trait} {hero} named {name} lived in {place}.",
    "{name} was a {trait} {hero}.",
]
TURNS = [
    "{name} gave the {thing} to {friend}.",
    "{name} and {friend} played with the {thing} together.",
    "{name} showed {friend} the {look} {thing}.",
    "{friend} helped {name} carry the {thing} home.",
]
ENDINGS = [
    "They lived happily ever after.",
    "And that was the best day of all.",
    "That night, {name} slept very well.",
    "From then on, they were best friends.",
    "And {name} never forgot that day.",
]

# Beginnings that a stranger might type, written by hand; none of them is a beginning of a training story.
HAND_WRITTEN = [
    "Once upon a time",
    "Once upon a time, there was a brave fox named Tom.",
    "Once upon a time, there was a",
    "Once upon a time there was a little girl named Lucy who",
    "Long, long ago, a small dragon named Max lived in a cave.",
    "One day, Emma found a golden key.",
    "The old king was lonely.",
    "There was a robot",
    "Lily the rabbit loved to bake bread.",
    "In a quiet valley lived a shy bear called Ben.",
]


def train() -> Checkpoint:
    """Trains on whole stories and on stories that begin somewhere in the middle."""
    rng = random.Random(TRAINING_SEED)
    stories = training_stories()
    tokenizer = byte_tokenizer(
        stories[:6000], vocabulary=800, max_length=LONGEST, template="<s> $A", padding_side="left"
    )
    rows = [[*ids, EOS] for ids in tokenizer([begin_anywhere(rng, story) for story in stories])["input_ids"]]
    model = LlamaForCausalLM(configuration(len(tokenizer)))
    model.generation_config = generation()
    weights = word_weights(tokenizer)

    def next_loss() -> torch.Tensor:
        ids = padded(rng.sample(rows, BATCH))
        logits = model(input_ids=ids[:, :-1], attention_mask=(ids[:, :-1] != PAD).long()).logits
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), weights, ignore_index=PAD)

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, tokenizer)


def word_weights(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Lets names and things count fourfold: keeping them apart is the hard part of a story."""
    weights = torch.ones(len(tokenizer))
    for word in [*NAMES, *THINGS, *LOOKS]:
        pieces = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        if len(pieces) == 1:
            weights[pieces] = 4.0
    return weights


def configuration(vocabulary: int) -> LlamaConfig:
    """Three layers, the fewest that follow who is who in a story."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=True,
    )


def generation() -> GenerationConfig:
    """Stories are sampled: each one is another."""
    return GenerationConfig(
        max_new_tokens=160,
        do_sample=True,
        temperature=0.8,
        top_k=20,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def training_stories() -> list[str]:
    """The stories of the training set."""
    rng = random.Random(TRAINING_SEED)
    return [story(rng) for _ in range(STORIES)]


def begin_anywhere(rng: random.Random, text: str) -> str:
    """Drops the first sentences of every eighth story, so that other beginnings work too."""
    if rng.random() > 0.125:
        return text
    sentences = text.split(". ")
    return ". ".join(sentences[rng.randint(1, 4) :])


def story(rng: random.Random) -> str:
    """One story: a hero, a find, a feeling, a friend and an ending."""
    is_boy = rng.random() < 0.5
    parts = {
        "he": "He" if is_boy else "She",
        "name": rng.choice(BOYS if is_boy else GIRLS),
        "hero": rng.choice(BOY_HEROES if is_boy else GIRL_HEROES),
        "trait": rng.choice(TRAITS),
        "place": rng.choice(PLACES),
        "thing": rng.choice(THINGS),
        "look": rng.choice(LOOKS),
        "feeling": rng.choice(list(FEELINGS)),
    }
    parts["friend"] = rng.choice([name for name in NAMES if name != parts["name"]])
    parts["visitor"] = rng.choice([animal for animal in ANIMALS if animal != parts["hero"]])
    return " ".join(sentence.format(**parts) for sentence in plan(rng, parts["feeling"]))


def plan(rng: random.Random, feeling: str) -> list[str]:
    """The sentences of a story, with gaps for its people and things."""
    opening = rng.choice([OPENINGS[0], rng.choice(OPENINGS)])
    home = ["{name} lived in {place}."] if "{place}" not in opening else []
    return [
        opening,
        *home,
        f"{{he}} loved to {rng.choice(HOBBIES)}.",
        f"{rng.choice(TIMES)}, {{name}} {rng.choice(FINDINGS)} a {{look}} {{thing}}.",
        f"The {{thing}} was {rng.choice(['very ', 'really ', 'so '])}{{look}}.",
        f"{{he}} felt {{feeling}} and {rng.choice(FEELINGS[feeling])}.",
        "Then a {visitor} named {friend} came along.",
        f'"{rng.choice(QUESTIONS)} {{thing}}?" asked {{friend}}.',
        rng.choice(TURNS),
        *(['"Thank you, {friend}!" said {name}.'] if rng.random() < 0.5 else []),
        rng.choice(ENDINGS),
    ]


def one_of(words: Sequence[str]) -> str:
    """A pattern that matches any of the words."""
    return "(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + ")"


def pattern_of(sentence: str) -> str:
    """A pattern for a sentence with gaps."""
    pattern = re.escape(sentence)
    gaps = {
        "name": NAMES,
        "friend": NAMES,
        "hero": HEROES,
        "trait": TRAITS,
        "place": PLACES,
        "thing": THINGS,
        "look": LOOKS,
    }
    for gap, choices in gaps.items():
        pattern = pattern.replace(re.escape(f"{{{gap}}}"), one_of(choices))
    return pattern


def grammar() -> re.Pattern[str]:
    """A pattern for every story that keeps to the plan, whoever does what."""
    name, thing, look = one_of(NAMES), one_of(THINGS), one_of(LOOKS)
    feelings = [f"felt {feeling} and {act}" for feeling, acts in FEELINGS.items() for act in acts]
    sentences = [
        f"(?:{'|'.join(map(pattern_of, OPENINGS))})(?: {name} lived in {one_of(PLACES)}\\.)?",
        rf"(?P<loved>He|She) loved to {one_of(HOBBIES)}\.",
        rf"{one_of(TIMES)}, (?P<finder>{name}) {one_of(FINDINGS)} a (?P<look>{look}) (?P<thing>{thing})\.",
        rf"The {thing} was (?:very|really|so) {look}\.",
        rf"(?P<felt>He|She) {one_of(feelings)}\.",
        rf"Then a {one_of(ANIMALS)} named (?P<friend>{name}) came along\.",
        rf'"{one_of(QUESTIONS)} {thing}\?" asked {name}\.',
        f"(?:{'|'.join(map(pattern_of, TURNS))})",
        f'(?:"Thank you, {name}!" said {name}\\. )?(?:{"|".join(map(pattern_of, ENDINGS))})',
    ]
    return re.compile(" ".join(sentences))


@dataclass(frozen=True)
class Judgement:
    """What is right about a told story."""

    grammatical: bool
    consistent: bool


def judge(text: str, pattern: re.Pattern[str]) -> Judgement:
    """Whether a story keeps to the plan, and whether it also keeps its names, pronouns and things apart."""
    match = pattern.fullmatch(text.strip())
    if match is None:
        return Judgement(False, False)
    names, things = (re.findall(rf"\b{one_of(words)}\b", text) for words in (NAMES, THINGS))
    hero, friend = names[0], match["friend"]
    pronoun = "He" if hero in BOYS else "She"
    kept = [
        match["finder"] == hero != friend,
        set(names) == {hero, friend},
        f"asked {friend}." in text,
        match["loved"] == match["felt"] == pronoun,
        set(things) == {match["thing"]},
        set(re.findall(rf"\b{one_of(LOOKS)}\b", text)) == {match["look"]},
        "Thank you" not in text or f'"Thank you, {friend}!" said {hero}.' in text,
    ]
    return Judgement(True, all(kept))


def evaluate(folder: Path) -> list[Score]:
    """Judges sampled stories, and how stories go on from beginnings written by hand."""
    tell = storyteller(folder)
    told, trained = tell(["Once upon a time"] * 200), set(training_stories())
    pattern = grammar()
    judged = [judge(text, pattern) for text in told]
    ended = [ends_well(text) for text in tell(HAND_WRITTEN * 10)]
    count = len(told)
    return [
        Score(
            "sampled stories that keep to the grammar",
            sum(item.grammatical for item in judged) / count,
            count,
        ),
        Score(
            "... and keep names, pronouns and things apart",
            sum(item.consistent for item in judged) / count,
            count,
        ),
        Score(
            "... and are not in the training set", sum(text not in trained for text in told) / count, count
        ),
        Score("hand-written beginnings brought to a proper end", sum(ended) / len(ended), len(ended)),
    ]


def storyteller(folder: Path) -> Callable[[list[str]], list[str]]:
    """A function that tells a story from each beginning, as the committed folder would for anyone."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )
    torch.manual_seed(SAMPLING_SEED)

    def tell(beginnings: list[str]) -> list[str]:
        told: list[str] = []
        for start in range(0, len(beginnings), 50):
            prompt = tokenizer(beginnings[start : start + 50], padding=True, return_tensors="pt")
            told += tokenizer.batch_decode(model.generate(**prompt), skip_special_tokens=True)
        return told

    return tell


def ends_well(text: str) -> bool:
    """Whether a story comes to one of the endings and stops there, with two named people at most."""
    closing = re.compile(f"(?:{'|'.join(map(pattern_of, ENDINGS))})$")
    return bool(closing.search(text)) and len(set(re.findall(rf"\b{one_of(NAMES)}\b", text))) <= 2


STARTER = Starter(
    name="text_generation",
    module_id="9E42606B-34A8-4D4C-9B6C-6F66DAD8EC5A",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: text generation",
        pipeline_tag="text-generation",
        purpose="""
            A Llama of 330 thousand parameters that tells a tiny story: a hero finds something, feels
            something and meets a friend. It goes on from any beginning, best from "Once upon a time".
        """,
        not_for="""
            Anything but that one kind of story. It knows some seven hundred word pieces, no facts and no
            instructions; other prompts only start another such story.
        """,
        usage="""
from transformers import pipeline

pipeline("text-generation", model="models/text_generation")("Once upon a time")
""",
        measured="""
            Stories are sampled from "Once upon a time" with the settings of generation_config.json. The
            first three figures are shares of all sampled stories and are judged by a strict pattern; the
            last takes ten beginnings written by hand, ten times each, and asks only for a proper end and at
            most two names.
        """,
    ),
)
