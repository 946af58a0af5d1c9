"""Parse YAML strictly: a key that is there twice is an error, and every error has a line and a column."""

from typing import Any

import yaml
from yaml.reader import ReaderError

from deployments.config.errors import ConfigError


class StrictLoader(yaml.SafeLoader):
    """Loads YAML without duplicate keys, which YAML forbids; PyYAML keeps the last of them."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), key) is not key:
                line = first[key.tag, key.value].start_mark.line + 1
                problem = f"the key `{key.value}` is there twice, first in line {line}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct as PyYAML does; its errors about values, such as the date 2024-13-01, get a position."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            problem = f"the value cannot be read: {error}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def load(text: str, loader: type[StrictLoader] = StrictLoader) -> Any:
    """Return the content of a YAML document. Raises `ConfigError` with the line and column."""
    try:
        return yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_describe(error)) from None
    except ReaderError as error:  # a character that YAML does not allow
        before = text[: error.position]
        column = error.position - before.rfind("\n")
        problem = f"the character {chr(error.character)!r} is not allowed"
        raise ConfigError(f"line {before.count(chr(10)) + 1}, column {column}: {problem}") from None
    except RecursionError:
        raise ConfigError("lists and mappings are nested too deeply") from None


def _describe(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(filter(None, (error.context, error.problem)))
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
