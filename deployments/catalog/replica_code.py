"""The version of the code that a model's replicas run: only a change of that code has to roll them.

It follows imports statically, including those inside functions, from the Replica and the model's own task.
The gateway, the dialects, the Catalog and other tasks are not part of it, and there is no list to maintain.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
REPLICA = "deployments.replica.model_replica"


@cache
def code_version(task_module: str) -> str:
    """Return a digest of the code that a replica imports; `task_module` is the module of the model's task."""
    return digest_of_imports((REPLICA, task_module), _sources())


def digest_of_imports(roots: Iterable[str], sources: Mapping[str, str]) -> str:
    """Return a digest of the `roots` and of all that they import. `sources` are by module name."""
    digest = hashlib.sha256()
    for name in sorted(imported_by(roots, sources)):
        digest.update(f"{name}\n{sources[name]}\n".encode())
    return digest.hexdigest()[:16]


def imported_by(roots: Iterable[str], sources: Mapping[str, str]) -> set[str]:
    """Return the names of the `roots` that have a source, and of all that they import, however late."""
    found: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name in sources and name not in found:
            found.add(name)
            pending += _packages(name)
            pending += _imports(sources[name])
    return found


@cache
def _sources() -> dict[str, str]:
    """Read all files at once, so that an edit meanwhile does not give two models different versions."""
    return {_name(path): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


@cache
def _imports(source: str) -> frozenset[str]:
    return frozenset(_names(ast.parse(source)))


def _names(node: ast.AST) -> Iterator[str]:
    """Yield every name that may be a module: imports, names imported from them, and strings."""
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=str(module), names=aliases):
            yield module
            yield from (f"{module}.{alias.name}" for alias in aliases)
        case ast.Constant(value=str(text)):
            yield text.partition(":")[0]
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
            yield from chain.from_iterable(map(_names, orelse))
        case _:
            yield from chain.from_iterable(map(_names, ast.iter_child_nodes(node)))
