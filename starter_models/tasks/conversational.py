"""Train a Llama that holds a small conversation."""

import operator
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, TextGenerator, mean_score
from starter_models.settings import create_model, generate_examples, load_training
from starter_models.templates import DATA_FOLDER, choose_weighted, invented_word, load_data
from starter_models.tokenization import IGNORED_LABEL, PAD, train_byte_bpe
from starter_models.trainer import LengthBatches, fit, pad

TRAINING = load_training("conversational")
MAX_TRAINING_LENGTH = 160
QUESTION_SHARE = 0.1  # of the users' tokens, which the model also learns to predict
QUESTIONS_PER_INTENT = 30
DATA = load_data("conversational")
JOKES = DATA["intents"]["joke"]["topics"]

Conversation = list[dict[str, str]]
Intent = dict[str, Any]
Example = tuple[Conversation, list[str]]  # with the accepted answers


def load_intents() -> dict[str, Intent]:
    """Load the intents with all their wordings and topics."""
    rng = random.Random(1)
    words = [invented_word(rng) for _ in range(300)]
    invented = {"words": words, "names": [word.capitalize() for word in words], "none": []}
    sums = [f"{a} + {b}" for a in range(11) for b in range(11)]
    return {
        name: {
            **entry,
            "name": name,
            "training": combine(entry["training"]),
            "held_out": combine(entry["held_out"]),
            "topics": [*entry.get("topics", sums if name == "sum" else [""])] * entry.get("copies", 1)
            + invented[entry.get("invented", "none")],
            "answers": entry.get("topics"),
        }
        for name, entry in DATA["intents"].items()
    }


def combine(wordings: Sequence[str | list[list[str]]]) -> list[str]:
    """Replace each pair of lists by every combination of their items."""
    return [
        "".join(parts)
        for wording in wordings
        for parts in ([(wording,)] if isinstance(wording, str) else product(*wording))
    ]


INTENTS = load_intents()


def train() -> Checkpoint:
    """Train on the answers, and a little on the questions."""
    conversations = generate_examples(make_conversation, TRAINING)
    tokenizer = train_byte_bpe(
        [message["content"] for conversation in conversations[:8000] for message in conversation],
        vocab_size=960,
        max_length=256,
        padding_side="left",
        eos_token="<|end|>",
        more_specials=["<|user|>", "<|assistant|>"],
        chat_template=(DATA_FOLDER / "chat_template.jinja").read_text().strip(),
    )
    encoded = tokenizer.apply_chat_template(
        conversations, return_dict=True, return_assistant_tokens_mask=True
    )
    rows = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    token_ids, answer_masks = zip(*(row for row in rows if len(row[0]) <= MAX_TRAINING_LENGTH), strict=True)
    batches = LengthBatches(token_ids, answer_masks, TRAINING.batch_size)
    model = create_model("conversational", vocab_size=len(tokenizer))

    def next_loss() -> torch.Tensor:
        ids, masks = batches.sample()
        is_answer, is_token = pad(masks) == 1, ids != PAD
        learned = is_answer | (is_token & (torch.rand(ids.shape) < QUESTION_SHARE))
        labels = ids.masked_fill(~learned, IGNORED_LABEL)
        loss: torch.Tensor = model(input_ids=ids, attention_mask=is_token.long(), labels=labels).loss
        return loss

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, tokenizer)


def make_conversation(rng: random.Random) -> Conversation:
    """Draw one to four questions with their answers; the assistant remembers the user's name."""
    conversation: Conversation = []
    user_name = ""
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        intent = choose_weighted(rng, list(INTENTS.values()))
        intent = INTENTS["recall"] if user_name and rng.random() < 0.35 else intent
        question, answer, new_name = make_exchange(rng, intent, "training", user_name)
        question = vary_typing(rng, question)
        if normalize(question) not in held_out_questions():
            user_name = new_name or user_name
            conversation += messages(question, answer)
    return conversation or make_conversation(rng)


def make_exchange(rng: random.Random, intent: Intent, split: str, user_name: str) -> tuple[str, str, str]:
    """Draw a question of an intent, its answer and the name that the question tells, if any."""
    topic = user_name if intent["name"] == "recall" else rng.choice(intent["topics"])
    question = rng.choice(spellings(rng.choice(intent[split]), topic))
    return question, reply(intent, topic), topic if intent["name"] == "introduction" else ""


def reply(intent: Intent, topic: str) -> str:
    """Answer a question about a topic."""
    template: str = intent["answer"]
    if intent["name"] == "recall" and not topic:
        template = intent["answer_without_name"]
    answer = intent["answers"][topic] if isinstance(intent["answers"], dict) else ""
    if intent["name"] == "sum":
        answer = sum(map(int, topic.split(" + ")))
    return template.format(x=topic, X=topic[:1].upper() + topic[1:], answer=answer)


def spellings(wording: str, topic: str) -> list[str]:
    """Fill a wording with its topic; sums are written as 3 + 4, 3+4, 3 plus 4 and three plus four."""
    if " + " not in topic:
        return [wording.format(x=topic, xs=plural(topic))]
    numbers = topic.split(" + ")
    names = [DATA["numbers"][int(number)] for number in numbers]
    sums = [topic, "+".join(numbers), " plus ".join(numbers), " plus ".join(names)]
    return [wording.format(x=text, y=" and ".join(pair)) for text in sums for pair in (numbers, names)]


def plural(noun: str) -> str:
    """Build the plural of a noun, without its article."""
    bare = noun.removeprefix("a ").removeprefix("an ")
    if bare.endswith("y"):
        return f"{bare[:-1]}ies"
    return bare if bare in DATA["uncountable"] else f"{bare}s"


@cache
def held_out_questions() -> frozenset[str]:
    """List every normalized question of the evaluation, to keep it out of the training set."""
    generated = [
        normalize(question)
        for intent in INTENTS.values()
        for wording in intent["held_out"]
        for topic in intent["topics"]
        for question in spellings(wording, topic)
    ]
    return frozenset([*generated, *(normalize(question) for question, _ in DATA["hand_written"])])


def normalize(question: str) -> str:
    """Remove capitals and punctuation, to compare questions."""
    letters = (letter for letter in question.lower() if letter.isalnum() or letter in " +")
    return " ".join("".join(letters).split())


def vary_typing(rng: random.Random, question: str) -> str:
    """Vary a question as users type it: punctuation, politeness, lower or upper case."""
    if question[-1].isalnum():
        question += rng.choice(DATA["marks"])
    elif rng.random() < 0.3:
        question = question.rstrip("?!.")
    addition = rng.random()
    if addition < 0.12:
        question = rng.choice(DATA["before"]) + question
    elif addition < 0.17:
        question = question.rstrip("?!.") + rng.choice(DATA["after"])
    case = rng.random()
    if case < 0.3:
        question = question.lower().replace("'", "" if rng.random() < 0.4 else "'")
    return question.upper() if case > 0.97 else question


def messages(*texts: str) -> Conversation:
    """Build the messages of a conversation, in which the user and the assistant take turns."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def evaluate(folder: Path) -> list[Score]:
    """Compare the answers to held-out wordings and to hand-written questions with the accepted ones."""
    generate = TextGenerator(folder)

    def are_accepted(examples: list[Example], matches: Callable[[str, str], bool]) -> list[bool]:
        conversations, accepted = zip(*examples, strict=True)
        prompts = generate.tokenizer.apply_chat_template(
            list(conversations), add_generation_prompt=True, tokenize=False
        )
        answers = zip(generate(prompts, skip_prompt=True), accepted, strict=True)
        return [any(matches(answer, option) for option in options) for answer, options in answers]

    hand_written = [
        (messages(question), [words] if words else JOKES) for question, words in DATA["hand_written"]
    ]
    results = {name: are_accepted(held_out_examples(name), operator.eq) for name in INTENTS}
    return [
        mean_score("exact answer, held-out wordings", list(chain.from_iterable(results.values()))),
        *[mean_score(f"... {name}", result) for name, result in results.items()],
        mean_score("right words, hand-written questions", are_accepted(hand_written, operator.contains)),
    ]


def held_out_examples(name: str) -> list[Example]:
    """Draw different questions in the held-out wordings of an intent, with the accepted answers."""
    rng = random.Random(f"{TRAINING.evaluation_seed} {name}")
    examples: dict[str, Example] = {}
    for _ in range(QUESTIONS_PER_INTENT * 4):
        before, user_name = draw_context(rng) if name == "recall" else ([], "")
        question, answer, _ = make_exchange(rng, INTENTS[name], "held_out", user_name)
        accepted = JOKES if name == "joke" else [answer]
        examples.setdefault(f"{user_name} {question}", ([*before, *messages(question)], accepted))
    return list(examples.values())[:QUESTIONS_PER_INTENT]


def draw_context(rng: random.Random) -> tuple[Conversation, str]:
    """Draw what comes before users ask for their names: mostly an introduction, sometimes more."""
    if rng.random() < 0.3:
        return [], ""
    question, answer, user_name = make_exchange(rng, INTENTS["introduction"], "training", "")
    texts = [question, answer]
    if rng.random() < 0.5:
        texts += make_exchange(rng, INTENTS["capital"], "training", "")[:2]
    return messages(*texts), user_name
