"""InferenceResults token by token: whole characters, stop strings that never show, one reason to end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from deployments.generation.output import Answer
from tests import tiny_models as tiny

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

TOKENIZERS = {"bytes": tiny.byte_bpe(), "sentencepiece": tiny.sentencepiece()}
END = 1

every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def spell(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def answer(tokenizer: Any, prompt: str, tokens: list[int], **options: Any) -> tuple[Answer, list[str]]:
    """The answer after these tokens, and the texts that it let out on the way."""
    growing = Answer(
        tokenizer, spell(tokenizer, prompt), ends={END}, seed=None, **{"budget": 999, "stops": [], **options}
    )
    shown = []
    for token in tokens:
        shown += [clear.text for clear in growing.push(token, -1.0) if not clear.special]
        if growing.finish_reason:
            break
    return growing, shown


@every_tokenizer
@settings(max_examples=60, deadline=None)
@given(before=st.text(max_size=9), after=st.text(min_size=1, max_size=20))
def test_pieces_add_up_to_the_text(tokenizer: Any, before: str, after: str) -> None:
    whole = spell(tokenizer, f"{before}a{after}")
    prompt = spell(tokenizer, f"{before}a")
    if whole[: len(prompt)] != prompt or not whole[len(prompt) :]:
        return
    grown, shown = answer(tokenizer, f"{before}a", [*whole[len(prompt) :], END])
    assert "".join(shown) == grown.text == after
    assert grown.finish_reason == "eos_token"
    assert [token.id for token in grown.tokens] == [*whole[len(prompt) :], END]


@every_tokenizer
def test_a_space_at_the_start_is_kept(tokenizer: Any) -> None:
    grown, _ = answer(tokenizer, "Once", spell(tokenizer, "Once upon")[len(spell(tokenizer, "Once")) :])
    assert grown.text == "".join(t.text for t in grown.tokens) == " upon"


@every_tokenizer
def test_a_character_waits_until_it_is_whole(tokenizer: Any) -> None:
    _, shown = answer(tokenizer, "a", spell(tokenizer, "a😀文")[len(spell(tokenizer, "a")) :])
    assert "".join(shown) == "😀文"
    assert all(piece in ("", "😀", "文") for piece in shown)


def test_a_broken_character_is_shown_at_the_end() -> None:
    tokenizer = TOKENIZERS["bytes"]
    broken = spell(tokenizer, "a☃")[1:2]
    grown, shown = answer(tokenizer, "a", [*broken, END])
    assert grown.text == "".join(shown) == "\N{REPLACEMENT CHARACTER}"
    assert answer(tokenizer, "a", broken, budget=1)[0].text == "\N{REPLACEMENT CHARACTER}"


def test_what_never_becomes_a_character_does_not_wait_for_ever() -> None:
    tokenizer = TOKENIZERS["bytes"]
    [_, broken, *_] = spell(tokenizer, "a☃")
    grown, shown = answer(tokenizer, "a", [broken] * 20)
    assert len(grown.tokens) >= 12 and "".join(shown) == grown.text
    assert set(grown.text) == {"\N{REPLACEMENT CHARACTER}"}


@every_tokenizer
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_tokens_are_decoded(tokenizer: Any, data: st.DataObject) -> None:
    ids = st.integers(min_value=2, max_value=len(tokenizer) - 1)
    tokens = data.draw(st.lists(ids, min_size=1, max_size=30))
    grown, shown = answer(tokenizer, "a", [*tokens, END])
    assert grown.text == "".join(shown)
    assert len(grown.tokens) == len(tokens) + 1


def test_tokenizer_that_drops_incomplete_bytes() -> None:
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast, "written in Python"
    grown, shown = answer(tokenizer, "a", [*tokenizer("é 文😀", add_special_tokens=False)["input_ids"], END])
    assert grown.text == "".join(shown) == "é 文😀"
    assert all(len(piece) <= 1 for piece in shown)


@settings(max_examples=80, deadline=None)
@given(text=st.text("ab c", min_size=1, max_size=12), stop=st.text("ab c", min_size=1, max_size=4))
def test_a_stop_string_ends_the_text_and_never_shows(text: str, stop: str) -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    grown, shown = answer(tokenizer, "x", [*spell(tokenizer, f"x{text}")[2:], END], stops=[stop])
    assert grown.text == "".join(shown) == text.split(stop)[0]
    assert grown.finish_reason == ("stop_sequence" if stop in text else "eos_token")


def test_the_first_of_several_stop_strings_counts() -> None:
    tokenizer = TOKENIZERS["bytes"]
    tokens = spell(tokenizer, "Hello! How are you?")
    assert answer(tokenizer, "x", tokens, stops=["you", "!", "are"])[0].text == "Hello"


def test_a_special_token_can_be_a_stop_string() -> None:
    tokenizer = tiny.byte_bpe(additional_special_tokens=["<pad>"])
    grown, _ = answer(tokenizer, "x", [*spell(tokenizer, "Hello"), 0, 0], stops=["<pad>"])
    assert (grown.text, grown.finish_reason) == ("Hello", "stop_sequence")


def test_the_budget_ends_an_answer() -> None:
    tokenizer = TOKENIZERS["bytes"]
    grown, _ = answer(tokenizer, "x", spell(tokenizer, "Hello! How are you?"), budget=2)
    assert (len(grown.tokens), grown.finish_reason) == (2, "length")


def test_the_likeliest_tokens_are_spelled_in_their_place() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    growing = Answer(tokenizer, spell(tokenizer, "Once"), ends={END}, budget=9, stops=[], seed=None)
    [space, letter] = spell(tokenizer, " u")[-2:]
    growing.push(space, -0.5, [(letter, -0.1), (space, -0.5), (END, -3.0)])
    [top] = growing.top_tokens
    assert [token.text for token in top] == ["u", " ", "</s>"]
    assert [token.special for token in top] == [False, False, True]
    assert growing.text == " "
