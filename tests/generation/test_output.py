"""Generated output: incremental decoding, stop strings and finish reasons."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from deployments.generation.output import GenerationOutput
from tests import tiny_models as tiny

pytestmark = pytest.mark.model

TOKENIZERS = {"bytes": tiny.byte_bpe(), "sentencepiece": tiny.sentencepiece()}
EOS = 1

every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def create_output(tokenizer: Any, prompt: str, **options: Any) -> GenerationOutput:
    options = {"max_new_tokens": 999, "stop_strings": [], **options}
    prompt_ids = encode(tokenizer, prompt)
    return GenerationOutput(tokenizer, prompt_ids, eos_token_ids={EOS}, seed=None, **options)


def decode(
    tokenizer: Any, prompt: str, token_ids: list[int], **options: Any
) -> tuple[GenerationOutput, list[str]]:
    """Return the output after these tokens, and the texts of its chunks."""
    output = create_output(tokenizer, prompt, **options)
    texts = []
    for id in token_ids:
        texts += [token.text for token in output.append_token(id, -1.0) if not token.special]
        if output.finish_reason:
            break
    return output, texts


@every_tokenizer
@settings(max_examples=60, deadline=None)
@given(before=st.text(max_size=9), after=st.text(min_size=1, max_size=20))
def test_chunk_texts_concatenate_to_the_text(tokenizer: Any, before: str, after: str) -> None:
    whole = encode(tokenizer, f"{before}a{after}")
    prompt = encode(tokenizer, f"{before}a")
    if whole[: len(prompt)] != prompt or not whole[len(prompt) :]:
        return
    output, texts = decode(tokenizer, f"{before}a", [*whole[len(prompt) :], EOS])
    assert "".join(texts) == output.text == after
    assert output.finish_reason == "eos_token"
    assert [token.id for token in output.tokens] == [*whole[len(prompt) :], EOS]


@every_tokenizer
def test_leading_space_is_kept(tokenizer: Any) -> None:
    output, _ = decode(tokenizer, "Once", encode(tokenizer, "Once upon")[len(encode(tokenizer, "Once")) :])
    assert output.text == "".join(t.text for t in output.tokens) == " upon"


@every_tokenizer
def test_chunks_contain_whole_characters(tokenizer: Any) -> None:
    _, texts = decode(tokenizer, "a", encode(tokenizer, "a😀文")[len(encode(tokenizer, "a")) :])
    assert "".join(texts) == "😀文"
    assert all(piece in ("", "😀", "文") for piece in texts)


def test_incomplete_character_becomes_a_replacement_character_at_the_end() -> None:
    tokenizer = TOKENIZERS["bytes"]
    broken = encode(tokenizer, "a☃")[1:2]
    output, texts = decode(tokenizer, "a", [*broken, EOS])
    assert output.text == "".join(texts) == "\N{REPLACEMENT CHARACTER}"
    assert decode(tokenizer, "a", broken, max_new_tokens=1)[0].text == "\N{REPLACEMENT CHARACTER}"


def test_invalid_bytes_become_replacement_characters() -> None:
    tokenizer = TOKENIZERS["bytes"]
    [_, broken, *_] = encode(tokenizer, "a☃")
    output, texts = decode(tokenizer, "a", [broken] * 20)
    assert len(output.tokens) >= 12 and "".join(texts) == output.text
    assert set(output.text) == {"\N{REPLACEMENT CHARACTER}"}


@every_tokenizer
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_tokens_are_decoded(tokenizer: Any, data: st.DataObject) -> None:
    ids = st.integers(min_value=2, max_value=len(tokenizer) - 1)
    tokens = data.draw(st.lists(ids, min_size=1, max_size=30))
    output, texts = decode(tokenizer, "a", [*tokens, EOS])
    assert output.text == "".join(texts)
    assert len(output.tokens) == len(tokens) + 1


def test_tokenizer_that_drops_incomplete_bytes() -> None:
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast, "written in Python"
    output, texts = decode(tokenizer, "a", [*tokenizer("é 文😀", add_special_tokens=False)["input_ids"], EOS])
    assert output.text == "".join(texts) == "é 文😀"
    assert all(len(piece) <= 1 for piece in texts)


@settings(max_examples=80, deadline=None)
@given(text=st.text("ab c", min_size=1, max_size=12), stop=st.text("ab c", min_size=1, max_size=4))
def test_stop_string_ends_the_text_and_is_not_part_of_it(text: str, stop: str) -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    output, texts = decode(tokenizer, "x", [*encode(tokenizer, f"x{text}")[2:], EOS], stop_strings=[stop])
    assert output.text == "".join(texts) == text.split(stop)[0]
    assert output.finish_reason == ("stop_sequence" if stop in text else "eos_token")


def test_first_of_several_stop_strings_ends_the_text() -> None:
    tokenizer = TOKENIZERS["bytes"]
    tokens = encode(tokenizer, "Hello! How are you?")
    assert decode(tokenizer, "x", tokens, stop_strings=["you", "!", "are"])[0].text == "Hello"


def test_special_token_as_stop_string() -> None:
    tokenizer = tiny.byte_bpe(additional_special_tokens=["<pad>"])
    output, _ = decode(tokenizer, "x", [*encode(tokenizer, "Hello"), 0, 0], stop_strings=["<pad>"])
    assert (output.text, output.finish_reason) == ("Hello", "stop_sequence")


def test_max_new_tokens_ends_the_output() -> None:
    tokenizer = TOKENIZERS["bytes"]
    output, _ = decode(tokenizer, "x", encode(tokenizer, "Hello! How are you?"), max_new_tokens=2)
    assert (len(output.tokens), output.finish_reason) == (2, "length")


def test_top_tokens_are_decoded_at_their_position() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    output = create_output(tokenizer, "Once", max_new_tokens=9)
    [space, letter] = encode(tokenizer, " u")[-2:]
    output.append_token(space, -0.5, [(letter, -0.1), (space, -0.5), (EOS, -3.0)])
    [top] = output.top_tokens
    assert [token.text for token in top] == ["u", " ", "</s>"]
    assert [token.special for token in top] == [False, False, True]
    assert output.text == " "
