"""Multipart forms as the JSON they stand for: dotted keys nest, repeated ones make a list, a file is text."""

import base64
from typing import Any, get_origin

import orjson
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from deployments.errors import InvalidInput
from deployments.wire.http import check_json
from deployments.wire.protobuf import bare, without_none


class UnknownKey(InvalidInput):
    """A field that the schema has not."""


async def read_form(request: Request, body: bytes, schema: type[BaseModel]) -> dict[str, Any]:
    """The form in `body`, as `schema` may be validated from.

    Raises `InvalidInput`, `TooLarge`, or `UnknownKey`.
    """

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_part_size=len(body)) as form:
            told = {key: [await _text(value) for value in form.getlist(key)] for key in form}
        # UTF-7 can hold half of a character; JSON cannot.
        check_json(*("".join((key, *texts)).encode() for key, texts in told.items()))
    except UnicodeError:
        raise InvalidInput("the form cannot be read: it is not in the charset that it names") from None
    except (HTTPException, MultiPartException) as broken:  # which one depends on who called
        reason = broken.detail if isinstance(broken, HTTPException) else broken.message
        raise InvalidInput(f"the form cannot be read: {reason}") from None
    nested: dict[str, Any] = {}
    for key, texts in told.items():
        _put(nested, key, schema, texts)
    return nested


def _put(nested: dict[str, Any], key: str, schema: type[BaseModel], texts: list[str]) -> None:
    top, dot, inner = key.partition(".")
    kind = _kind(schema, top)
    if kind and not dot:
        nested[top] = _value(kind, texts)
        return
    place = nested.setdefault(top, {})
    if not (isinstance(place, dict) and isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise UnknownKey(f"Unknown key '{key}'", field=key)
    place[inner] = _value(_kind(kind, inner), texts)


def _kind(schema: type[BaseModel], name: str) -> Any:
    field = schema.model_fields.get(name)
    return field and without_none(bare(field.annotation))


def _value(kind: Any, texts: list[str]) -> Any:
    """What is not meant to be a string may be JSON itself."""
    if kind is str:
        return texts[-1]
    if len(texts) > 1 or (get_origin(kind) is list and not texts[0].startswith("[")):
        return texts
    try:
        return orjson.loads(texts[0])
    except orjson.JSONDecodeError:
        return texts[0]


async def _text(value: str | UploadFile) -> str:
    """A file that is no text (a picture) is its base64."""
    if isinstance(value, str):
        return value
    data = await value.read()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
