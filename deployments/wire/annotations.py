"""Simplify type annotations of schema fields."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def strip_annotated(annotation: Any) -> Any:
    """Remove `Annotated` from a type at any depth: `list[Text]` becomes `list[str]`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return strip_annotated(args[0])
    if not args or origin is Literal:
        return annotation
    if origin in (Union, UnionType):
        return Union[tuple(strip_annotated(arg) for arg in args)]  # noqa: UP007
    return origin[tuple(strip_annotated(arg) for arg in args)]


def unwrap_optional(annotation: Any) -> Any:
    """Remove None from a union: `float | None` becomes `float`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(arg for arg in get_args(annotation) if arg is not NoneType)]  # noqa: UP007
