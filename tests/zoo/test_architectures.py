"""Every family of architectures has transformers' own answers, or is refused: docs/architectures.md."""

import pytest

from tests.zoo.outcomes import DIFFERENT, EQUAL, ZOOS, outcome
from tests.zoo.page import PAGE, documented

pytestmark = pytest.mark.model

CASES = [
    (task, family) for task, zoo in ZOOS.items() for family in zoo.FAMILIES if family not in zoo.EXCEPTIONS
]


@pytest.mark.filterwarnings("default")  # of the networks' own code
@pytest.mark.parametrize(("task", "family"), CASES)
def test_answers_equal_transformers_or_the_architecture_is_refused(task: str, family: str) -> None:
    found = outcome(task, family)
    assert not found.startswith(DIFFERENT), found
    assert found.partition(":")[0] == documented(PAGE.read_text(encoding="utf-8"))[task, family], found


def test_page_lists_every_family_and_no_difference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = documented(text)
    assert f"| {DIFFERENT} |" not in text
    assert {key for key, found in listed.items() if found} == {*CASES}
    assert list(listed.values()).count(EQUAL) > 450
