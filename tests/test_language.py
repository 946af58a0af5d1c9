"""Names and prose use the field's terms: words of an older, private vocabulary do not come back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("deployments", "ui", "tests", "benchmarks", "starter_models", "docs")
SUFFIXES = {".py", ".js", ".css", ".md"}
TOP_LEVEL = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "cluster.yaml", "serve_config.yaml")

USE_INSTEAD = {
    "told": "what it is: response, error, batch encoding, chunk, message",
    "asked": "request, called, sent",
    "nobody": "no client, no caller",
    "whoever": "a client that, a caller that",
    "shall": "must",
    "lest": "so that ... not",
    "anew": "again",
    "hurry": "shorten deadlines",
    "farewell": "grace period",
    "door": "gateway, ingress, server",
    "house": "project, checkout",
    "as it is": "unchanged",
    "of its own": "separate",
    "of our own": "Roster's",
    "in vain": "without effect",
}
# Identifiers count too: `_told` and `told_at`, but not `retold`.
BANNED = re.compile(rf"(?<![a-z])({'|'.join(USE_INSTEAD)})(?![a-z])", re.IGNORECASE)


def text_files() -> Iterator[Path]:
    yield from (ROOT / name for name in TOP_LEVEL)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__):
                yield path


def test_private_vocabulary_is_gone() -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {match[1]!r}; use: {USE_INSTEAD[match[1].lower()]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in BANNED.finditer(line)
    ]
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize("text", ["what is told", "self._told = 1", "told_at", "Nobody asks", "by the door"])
def test_banned_words_are_found_in_prose_and_identifiers(text: str) -> None:
    assert BANNED.search(text)


@pytest.mark.parametrize("text", ["retold", "outdoors", "a household", "shallow copy", "lesters"])
def test_banned_words_are_not_found_inside_other_words(text: str) -> None:
    assert not BANNED.search(text)
