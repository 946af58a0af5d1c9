"""Kinds of networks, by the architecture that a checkpoint's config names: transformers' own tables."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from deployments.errors import ModelNotReady

# The kinds of networks that encode texts: without a head, or with one that only training needs.
ENCODERS = ("TEXT_ENCODING", "MASKED_LM", "PRETRAINING", "NEXT_SENTENCE_PREDICTION")
BASE = "BASE"
"""The kind of networks without a head."""
TABLE = re.compile(r"MODEL_(?:FOR_(\w+)_)?MAPPING_NAMES")


def check_architecture(config: Any, kinds: Iterable[str], fitting: Mapping[str, Iterable[str]]) -> None:
    """Raise `ModelNotReady` if transformers knows the checkpoint as another kind of network than `kinds`.

    `config` is the content of config.json, or None. `fitting` has the kinds that each module serves, by the
    module's name; the reason names those that fit.
    """
    for name in (config.get("architectures") if isinstance(config, dict) else None) or ():
        found = kinds_of(name)
        if found.isdisjoint(kinds) and found:
            others = [module for module, served in fitting.items() if not found.isdisjoint(served)]
            advice = f"; it fits {' or '.join(others)}" if others else ", and no module serves it"
            raise ModelNotReady(f"the checkpoint is a {name}, which does not fit this module{advice}")


def kinds_of(architecture: str) -> frozenset[str]:
    """Return the kinds of an architecture ("BertForMaskedLM" is "MASKED_LM"); empty if it is unknown."""
    return frozenset(kind for kind, names in _tables().items() if architecture in names)


@cache
def _tables() -> dict[str, frozenset[str]]:
    """Return the names of architectures by kind, from MODEL_FOR_<kind>_MAPPING_NAMES."""
    from transformers.models.auto import modeling_auto

    tables = {}
    for name, table in vars(modeling_auto).items():
        if match := TABLE.fullmatch(name):
            tables[match[1] or BASE] = frozenset(_flat(table.values()))
    return tables


def _flat(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        yield from (value if isinstance(value, tuple | list) else (value,))
