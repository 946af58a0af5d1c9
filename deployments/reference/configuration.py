"""The reference of every configuration key, from the pydantic models that check them."""

import json
import re
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.catalog.deployment_options import options
from deployments.config.gateway_config import GatewayArgs
from deployments.config.model_config import Engine, ModelConfig
from deployments.config.serve_options import deployment_schema, nested_schemas
from deployments.limits import Batching

HEAD = """# Configuration

`python -m deployments.reference` writes this page from the models that check the configuration.

"""
GATEWAY = """## The gateway: `args` in serve_config.yaml

Ray Serve's own options of the gateway's deployments (`num_replicas` of the Router, for example) stand beside
`args`, under `deployments`.

"""
MODEL = """## A model: `config.yml`

One file per folder in `models/`. An unknown key is an error; the model is then unavailable, with the reason.

"""
DEPLOYMENT = """### `deployment`

Ray Serve's options, with its own descriptions. The default is Roster's where Roster sets one, else Ray
Serve's.

"""
HEADER = "| key | type | default | description |\n|---|---|---|---|\n"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "mapping", NoneType: "null"}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
REFERENCE = re.compile(r":ref:`([^<`]*?) <[^>`]*>`")
OPTIONS = "../deployments/catalog/deployment_options.py"
MAX_DEFAULT = 100  # characters; longer ones are for the code
UNDESCRIBED = {  # in Ray Serve
    "status_code": "The HTTP status of a request that the full queue rejects.",
    "retry_after_s": "The seconds in the `Retry-After` header of such a response.",
}


def text() -> str:
    """Write the page."""
    sections = [
        HEAD + MODEL + _table(ModelConfig),
        "### `engine`\n\n" + _table(Engine),
        "### `batching`\n\n" + _table(Batching),
        DEPLOYMENT + _deployment(),
        GATEWAY + _table(GatewayArgs),
    ]
    return "\n".join(sections)


def _deployment() -> str:
    schema, names = deployment_schema()
    defaults = options({})
    tables = [_table(schema, defaults, names)]
    for name, nested in nested_schemas().items():
        tables.append(f"#### `deployment.{name}`\n\n" + _table(nested, defaults.get(name, {})))
    return "\n".join(tables)


def _table(
    schema: type[BaseModel], defaults: Mapping[str, Any] | None = None, names: Collection[str] | None = None
) -> str:
    fields = {name: field for name, field in schema.model_fields.items() if names is None or name in names}
    return HEADER + "".join(_row(name, field, defaults or {}) for name, field in fields.items())


def _row(name: str, field: FieldInfo, defaults: Mapping[str, Any]) -> str:
    default = _shown(defaults[name]) if name in defaults else _default(field)
    cells = f"`{name}`", _type(field), default, _markdown(field.description or UNDESCRIBED[name])
    return f"| {' | '.join(cells)} |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Enum) and not isinstance(default, str):
        return "Ray Serve's"  # a sentinel: Serve looks the value up when it deploys
    return "see below" if isinstance(default, BaseModel) else _shown(default)


def _shown(value: Any) -> str:
    shown = json.dumps(str(value) if isinstance(value, Path) else value)
    return f"`{shown}`" if len(shown) < MAX_DEFAULT else f"[set by Roster]({OPTIONS})"


def _markdown(description: str) -> str:
    """Write Ray Serve's reStructuredText as Markdown, on one line of a table."""
    plain = REFERENCE.sub(r"\1", description).replace("``", "`").replace("|", "&#124;")
    return " ".join(plain.split())


def _type(field: FieldInfo) -> str:
    return ", ".join([_name(field.annotation), *_bounds(field.metadata)])


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_name(arguments[0]), *_bounds(annotation.__metadata__)])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_name, arguments)))
    if origin is Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin is list:
        return f"list of {_name(arguments[0])}s"
    return _plain(origin or annotation)


def _plain(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    return TYPES.get(kind, "string")


def _bounds(metadata: Collection[Any]) -> list[str]:
    return [
        f"{sign} {getattr(constraint, bound):g}"
        for constraint in metadata
        for bound, sign in BOUNDS.items()
        if hasattr(constraint, bound)
    ]
