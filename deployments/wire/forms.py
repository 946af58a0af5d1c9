"""Parse multipart forms into JSON values.

Dotted keys become nested objects, repeated keys become lists, and a file becomes text.
"""

import base64
from typing import Any, get_origin

import orjson
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from deployments.errors import InvalidInput
from deployments.wire.annotations import strip_annotated, unwrap_optional
from deployments.wire.http import check_json


class UnknownKey(InvalidInput):
    """A form has a field that its schema does not have."""


async def parse_form(request: Request, body: bytes, schema: type[BaseModel]) -> dict[str, Any]:
    """Parse the form in `body` into a value that `schema` can validate.

    Raises `InvalidInput`, `TooLarge`, or `UnknownKey`.
    """
    nested: dict[str, Any] = {}
    for key, texts in (await _parse_texts(request, body)).items():
        _set_value(nested, key, schema, texts)
    return nested


async def _parse_texts(request: Request, body: bytes) -> dict[str, list[str]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_part_size=len(body)) as form:
            texts = {key: [await _to_text(value) for value in form.getlist(key)] for key in form}
        # A form in UTF-7 can hold half of a surrogate pair, which JSON cannot; this `encode` raises then.
        check_json(*("".join((key, *values)).encode() for key, values in texts.items()))
    except UnicodeError:
        raise InvalidInput("the form is not in the charset of its Content-Type") from None
    except (HTTPException, MultiPartException) as error:  # Starlette raises the first inside an application
        reason = error.detail if isinstance(error, HTTPException) else error.message
        raise InvalidInput(f"the form is not valid: {reason}") from None
    return texts


def _set_value(nested: dict[str, Any], key: str, schema: type[BaseModel], texts: list[str]) -> None:
    name, dot, inner_name = key.partition(".")
    annotation = _annotation_of(schema, name)
    if annotation and not dot:
        nested[name] = _to_value(annotation, texts)
        return
    values = nested.setdefault(name, {})
    is_schema = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if not (isinstance(values, dict) and is_schema):
        raise UnknownKey(f"Unknown key '{key}'", field=key)
    values[inner_name] = _to_value(_annotation_of(annotation, inner_name), texts)


def _annotation_of(schema: type[BaseModel], name: str) -> Any:
    field = schema.model_fields.get(name)
    return field and unwrap_optional(strip_annotated(field.annotation))


def _to_value(annotation: Any, texts: list[str]) -> Any:
    """Return a field's value; the text of a field that is not a string may be JSON."""
    if annotation is str:
        return texts[-1]
    if len(texts) > 1 or (get_origin(annotation) is list and not texts[0].startswith("[")):
        return texts
    try:
        return orjson.loads(texts[0])
    except orjson.JSONDecodeError:
        return texts[0]


async def _to_text(value: str | UploadFile) -> str:
    """Return the text of a form's value; a file that is not text (an image) as base64."""
    if isinstance(value, str):
        return value
    data = await value.read()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
