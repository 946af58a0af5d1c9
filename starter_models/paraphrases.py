"""Generate pairs of sentences that mean the same, and evaluate embeddings with them."""

import random
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch

from starter_models.evaluation import Score, accuracy, mean_score
from starter_models.templates import fill, invented_word, load_data

EVALUATION_SEED = 4242
DATA = load_data("paraphrases")

Pairs = list[tuple[str, str]]  # sentences and their paraphrases
Encode = Callable[[list[str]], torch.Tensor]


class Meaning(NamedTuple):
    """A meaning: a key that no other meaning has, and a function that draws a wording."""

    key: Hashable
    draw: Callable[[random.Random], str]


def activity(rng: random.Random) -> Meaning:
    """Draw a meaning such as "a man eats bread"."""
    subjects, adverbs = rng.choice(DATA["subjects"]), rng.choice(DATA["adverbs"])
    action = rng.choice(DATA["actions"])
    objects = rng.choice(action["objects"])
    synonyms = {**DATA, "subject": subjects, "verb": action["verbs"], "object": objects}

    def draw(rng: random.Random) -> str:
        adverb = rng.choice(adverbs)
        clause = fill(rng, "{determiners} {subject} {verb} {object}", synonyms)
        return decorate(rng, f"{adverb} {clause}" if rng.random() < 0.2 else f"{clause} {adverb}")

    return Meaning((*subjects, *action["verbs"], *objects), draw)


def quality(rng: random.Random) -> Meaning:
    """Draw a meaning such as "the tower is big"."""
    nouns, adjectives = rng.choice(DATA["things"]), rng.choice(DATA["qualities"])

    def draw(rng: random.Random) -> str:
        words = {**DATA, "noun": rng.choice(nouns), "adjective": rng.choice(adjectives)}
        verb, degree = rng.choice(DATA["verbs"]), rng.choice(DATA["degrees"])
        plain = fill(rng, f"{{determiners}} {{noun}} {verb} {degree}{{adjective}}", words)
        attributive = fill(rng, "{introductions} {adjective} {noun}", words)
        return decorate(rng, attributive if rng.random() < 0.35 and " " not in words["adjective"] else plain)

    return Meaning((*nouns, *adjectives), draw)


def request(rng: random.Random) -> Meaning:
    """Draw a request such as "reset my password"."""
    wordings = rng.choice(DATA["requests"])["training"]

    def draw(rng: random.Random) -> str:
        return str(rng.choice(DATA["greetings"]) + rng.choice(wordings) + rng.choice(["", "?", "."]))

    return Meaning(wordings[0], draw)


def invented(rng: random.Random) -> Meaning:
    """Draw unknown words, so that sentences that share unknown words become similar."""
    words = [invented_word(rng) for _ in range(rng.randint(2, 4))]

    def draw(rng: random.Random) -> str:
        kept = list(words)
        if len(kept) > 2 and rng.random() < 0.4:
            kept.remove(rng.choice(kept))
        has_subject = rng.random() < 0.2
        subject = rng.choice(rng.choice(DATA["subjects"]) if has_subject else DATA["determiners"])
        return decorate(rng, f"{subject} {' '.join(kept)}")

    return Meaning(" ".join(words), draw)


def decorate(rng: random.Random, text: str) -> str:
    """Add an opening phrase and punctuation, which do not change the meaning."""
    opener = rng.choice(DATA["openers"]) if rng.random() < 0.12 else ""
    return f"{opener}{text.strip()}{rng.choice(['', '.', '.'])}"


def make_pairs(rng: random.Random, count: int) -> Pairs:
    """Draw sentences and their paraphrases; no two pairs mean the same."""
    meanings: dict[Hashable, Meaning] = {}
    while len(meanings) < count:
        kind = rng.choices([activity, quality, request, invented], [45, 22, 23, 10])[0]
        meaning = kind(rng)
        meanings.setdefault(meaning.key, meaning)
    return [(meaning.draw(rng), meaning.draw(rng)) for meaning in meanings.values()]


def tokenizer_corpus(seed: int) -> list[str]:
    """Generate text for the tokenizer that contains every word of the lists."""
    rng = random.Random(seed)
    kinds = [activity] * 10_000 + [quality] * 4000 + [request] * 2000
    return [kind(rng).draw(rng) for kind in kinds]


def held_out_pairs(count: int) -> Pairs:
    """Draw new pairs of two different sentences."""
    pairs = make_pairs(random.Random(EVALUATION_SEED), count * 2)
    return [(sentence, paraphrase) for sentence, paraphrase in pairs if sentence != paraphrase][:count]


def evaluate_embeddings(encode: Encode) -> list[Score]:
    """Evaluate normalized embeddings on new pairs, held-out requests and hand-written triplets."""
    sentences, paraphrases = (encode(list(column)) for column in zip(*held_out_pairs(200), strict=True))
    nearest = (sentences @ paraphrases.T).argmax(1).tolist()
    anchors, positives, negatives = (
        encode(list(column)) for column in zip(*DATA["hand_written"], strict=True)
    )
    close, far = (anchors * positives).sum(1), (anchors * negatives).sum(1)
    return [
        accuracy("own paraphrase retrieved among 200 new generated pairs", nearest, range(200)),
        request_accuracy(encode),
        mean_score("hand-written triplets in the right order", (close > far).tolist()),
        mean_score("mean cosine similarity, hand-written paraphrases", close.tolist()),
        mean_score("mean cosine similarity, hand-written unrelated pairs", far.tolist()),
    ]


def request_accuracy(encode: Encode) -> Score:
    """Compute the share of held-out wordings whose nearest training wording is the same request."""
    training, held_out = (
        [(text, index) for index, wordings in enumerate(DATA["requests"]) for text in wordings[split]]
        for split in ("training", "held_out")
    )
    similarity = encode([text for text, _ in held_out]) @ encode([text for text, _ in training]).T
    predicted = [training[nearest][1] for nearest in similarity.argmax(1).tolist()]
    return accuracy("request recognized in a held-out wording", predicted, [index for _, index in held_out])
