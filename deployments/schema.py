"""The words of the wire: what a field *means*, said once.

A word is a type with a JSON Schema `format`. Validation, OpenAPI, protobuf and the UI's widgets all read
their part from it, so a task that speaks in these words is spoken by every dialect. Nothing here is heavy.
"""

import base64
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from typing_extensions import TypedDict

from deployments.errors import InvalidInput, TooLarge
from deployments.media import picture_bytes

MAX_TEXT = 1_000_000
MAX_ITEMS = 1_000


class Schema(BaseModel):
    """A value on the wire. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _text(value: Any) -> Any:
    if value == "":
        raise InvalidInput("the text is empty")
    return _bounded(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise TooLarge(f"the text has {len(value):,} characters; at most {MAX_TEXT:,} are accepted")
    return value


def _texts(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not value:
            raise InvalidInput("the list of texts is empty")
        if len(value) > MAX_ITEMS:
            raise TooLarge(f"the list has {len(value):,} texts; at most {MAX_ITEMS:,} are accepted")
    return value


def _messages(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else _texts(value)


Text = Annotated[str, BeforeValidator(_text), Field(json_schema_extra={"format": "text"})]
"""A text for the model: not empty, at most a million characters (the model truncates at its own limit)."""

Texts = Annotated[list[Text], BeforeValidator(_texts), Field(json_schema_extra={"format": "texts"})]
"""Several texts that belong to one item: at least one, at most a thousand."""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


Image = Annotated[
    bytes,
    BeforeValidator(picture_bytes),
    PlainSerializer(_base64, when_used="json"),
    WithJsonSchema({"type": "string", "format": "image", "contentEncoding": "base64"}),
]
"""An encoded picture; in JSON base64 or a data: URL."""

Unit = Annotated[float, Field(ge=0, le=1)]
"""A share or probability, 0 to 1."""


class Label(Schema):
    """One class and how sure the model is of it."""

    label: str
    score: float


class Box(Schema):
    """A rectangle in pixels of the picture that was sent; the origin is its upper left corner."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class DetectedObject(Schema):
    """One thing found in a picture."""

    label: str
    score: float
    box: Box


Mask = Annotated[
    bytes,
    PlainSerializer(_base64, when_used="json"),
    WithJsonSchema({"type": "string", "format": "mask", "contentEncoding": "base64"}),
]
"""A PNG, 8 bit grey, of the picture's size: 255 where the segment is; base64 in JSON."""


class Segment(Schema):
    """One region of a picture. A semantic model gives no score."""

    label: str
    score: float | None
    mask: Mask


class Vector(Schema):
    """One vector and what it stands for: a token's id, or a sentence's place in its list."""

    index: int
    values: list[float]


# A text can have a million: as dictionaries they travel in a tenth of the time that objects take.
class TextToken(TypedDict):
    """One token of a text, and its place in it, in characters; a special one has none."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Message(Schema):
    """One turn of a conversation; what was said in it may be nothing."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_bounded), Field(json_schema_extra={"format": "text"})]


def _answerable(messages: list[Message]) -> list[Message]:
    if not messages[-1].content:
        raise InvalidInput("the last turn is empty")
    return messages


Messages = Annotated[
    list[Message],
    BeforeValidator(_messages),
    AfterValidator(_answerable),
    Field(json_schema_extra={"format": "conversation"}),
]
"""A conversation, oldest turn first; a bare string is one user's turn. The last turn says something."""


def words(schema: type[BaseModel]) -> dict[str, str]:
    """What each field means: its `format` ("text", "image", "conversation", ...), or else its JSON type."""
    return {name: _word(field) for name, field in schema.model_json_schema().get("properties", {}).items()}


def _word(field: dict[str, Any]) -> str:
    given = next((option for option in field.get("anyOf", ()) if option.get("type") != "null"), field)
    return str(field.get("format") or given.get("format") or given.get("type", "object"))
