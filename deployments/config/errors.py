"""A mistake in a config, in a sentence that names the file and the field."""

import difflib
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError


class ConfigError(ValueError):
    """A sentence that names the file, the field and what is wrong with it."""


def sentences(invalid: ValidationError, schema: type[BaseModel], where: str = "") -> str:
    """Describe the first error of each field; `where` is the path of the schema in the file."""
    told: dict[str, str] = {}
    for error in invalid.errors():
        # The branches of a union complain one by one; a field's first complaint is enough.
        depth = 1 if where else None
        field = ".".join(str(part) for part in (where, *error["loc"][:depth]) if part)
        told.setdefault(field, _sentence(error, field, schema))
    return "; ".join(told.values())


def _sentence(error: Any, field: str, schema: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"`{field}` is no field of it{hint(field, {*schema.model_fields})}"
    told: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], (int, float, date)):
        told += "; put it in quotes"
    return f"`{field}`: {told}" if field else told


def hint(name: str, known: set[str]) -> str:
    """Suggest the known name that is closest to a misspelt one; empty if none is."""
    close = difflib.get_close_matches(str(name), sorted(known), 1)
    return f"; did you mean `{close[0]}`?" if close else ""
