"""The text generator of the starter models, and the data that it makes."""

from __future__ import annotations

import random
import re

import pytest

from starter_models.settings import generate_examples, load_training
from starter_models.templates import fill, to_regex

pytestmark = pytest.mark.model  # the tasks import torch and transformers

COLORS = ["red", "blue"]


def test_fill_draws_from_lists_and_inserts_strings() -> None:
    vocabulary = {"color": COLORS, "animal": ["{color} cat", "{color} dog"], "name": "Tom"}
    texts = {fill(random.Random(seed), "{name} has a {animal}.", vocabulary) for seed in range(50)}
    assert texts == {f"Tom has a {color} {animal}." for color in COLORS for animal in ("cat", "dog")}


def test_fill_takes_negated_gaps_from_the_opposite_vocabulary() -> None:
    good, bad = {"adj": ["good"], "clause": "x"}, {"adj": ["bad"], "clause": ["not {!adj}"]}
    assert fill(random.Random(0), "{adj}, not {!adj}", good, bad) == "good, not bad"
    assert fill(random.Random(0), "{!clause}", good, bad) == "not good"


def test_fill_calls_functions_with_the_random_generator() -> None:
    vocabulary = {"digit": lambda rng: str(rng.randrange(10))}
    assert fill(random.Random(3), "{digit}{digit}", vocabulary) == fill(
        random.Random(3), "{digit}{digit}", vocabulary
    )


def test_regex_matches_what_fill_makes() -> None:
    vocabulary = {"color": COLORS, "animal": ["{color} cat.", "dog"]}
    pattern = re.compile(to_regex("a {color} and a {animal}", vocabulary, frozenset({"color"})))
    for seed in range(20):
        assert pattern.fullmatch(fill(random.Random(seed), "a {color} and a {animal}", vocabulary))
    match = pattern.fullmatch("a blue and a red cat.")
    assert match is not None
    assert match["color"] == "blue"
    assert not pattern.fullmatch("a green and a dog")


def test_training_conversations_exclude_held_out_questions() -> None:
    from starter_models.tasks.conversational import held_out_questions, make_conversation, normalize

    rng = random.Random(1)
    conversations = [make_conversation(rng) for _ in range(500)]
    questions = {normalize(message["content"]) for chat in conversations for message in chat[::2]}
    assert questions.isdisjoint(held_out_questions())


def test_generated_stories_follow_the_plan() -> None:
    from starter_models.tasks.text_generation import is_consistent, make_story, story_pattern

    rng, pattern = random.Random(1), story_pattern()
    assert all(is_consistent(pattern.fullmatch(make_story(rng))) for _ in range(20))


def test_story_with_a_wrong_pronoun_is_inconsistent() -> None:
    from starter_models.tasks.text_generation import is_consistent, make_story, story_pattern

    story = make_story(random.Random(1))
    wrong = (
        story.replace("He felt", "She felt") if "He felt" in story else story.replace("She felt", "He felt")
    )
    match = story_pattern().fullmatch(wrong)
    assert match is not None
    assert not is_consistent(match)


def test_training_data_depend_only_on_the_seed() -> None:
    from starter_models.tasks.sentiment import make_example

    training = load_training("sentiment")
    first, second = (make_example(random.Random(training.seed)) for _ in range(2))
    assert first == second
    assert generate_examples(lambda rng: rng.random(), training)[0] == random.Random(training.seed).random()
