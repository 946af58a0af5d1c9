"""The chart in docs/architecture.md is current, and each package says what it holds."""

from deployments.reference import architecture


def test_package_chart_is_current() -> None:
    assert architecture.text() == architecture.PAGE.read_text(), "run `make docs`"


def test_every_package_has_a_docstring_of_one_line() -> None:
    rows = architecture.chart().splitlines()
    assert [row for row in rows if row.endswith("|  |")] == []
    assert any("`wire/openai/`" in row for row in rows), "packages inside packages have rows"
