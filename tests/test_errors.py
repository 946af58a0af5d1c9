"""Errors keep their kind, sentence, field and delay between processes."""

import pickle

import pytest

from deployments import errors
from deployments.errors import InferenceError, InvalidInput, Overloaded

ALL = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, InferenceError)]


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("field", [None, "messages[0].content"])
@pytest.mark.parametrize("retry_after", [None, 7.5])
def test_an_error_is_the_same_once_pickled(
    error: type[InferenceError], field: str | None, retry_after: float | None
) -> None:
    sent = error("`it` is wrong", field=field, retry_after=retry_after)
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert (str(received), received.field) == ("`it` is wrong", field)
    assert received.retry_after == sent.retry_after == (retry_after or error.retry_after)


def test_a_restated_error_keeps_its_field_unless_another_is_given() -> None:
    error = InvalidInput("`a` is wrong", field="a")
    again = error.restated("row 1: `a` is wrong")
    assert (type(again), str(again), again.field) == (InvalidInput, "row 1: `a` is wrong", "a")
    assert error.restated("`b`: `a` is wrong", field="b").field == "b"
    assert Overloaded("full", retry_after=3).restated("row 1: full").retry_after == 3
