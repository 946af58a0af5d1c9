"""Errors of a configuration, as sentences that name the file and the field."""

import difflib
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError


class ConfigError(ValueError):
    """A sentence that names the file, the field and what is wrong with it."""


def describe_errors(invalid: ValidationError, schema: type[BaseModel], where: str = "") -> str:
    """Describe the first error of each field; `where` is the path of the schema in the file."""
    sentences: dict[str, str] = {}
    for error in invalid.errors():
        # Each branch of a union has an error; the first one of a field is enough.
        depth = 1 if where else None
        field = ".".join(str(part) for part in (where, *error["loc"][:depth]) if part)
        sentences.setdefault(field, _describe_error(error, field, schema))
    return "; ".join(sentences.values())


def _describe_error(error: Any, field: str, schema: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"`{field}` is an unknown field{suggest(field, {*schema.model_fields})}"
    problem: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], (int, float, date)):
        problem += "; put it in quotes"
    return f"`{field}`: {problem}" if field else problem


def suggest(name: str, known: set[str]) -> str:
    """Suggest the known name that is closest to a misspelt one; empty if none is."""
    close = difflib.get_close_matches(str(name), sorted(known), 1)
    return f"; did you mean `{close[0]}`?" if close else ""
