"""Field types that carry their meaning: text, image, label, box, vector, conversation.

Each type has a JSON Schema `format`. Validation, OpenAPI, protobuf and the UI's widgets derive from it, so
every dialect supports a task that uses these types. This module imports nothing heavy.
"""

import base64
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    WithJsonSchema,
)
from typing_extensions import TypedDict

from deployments.errors import InvalidInput, TooLarge
from deployments.media import MAX_BASE64, image_bytes

MAX_TEXT = 1_000_000
MAX_ITEMS = 1_000

# The limits that validators below check, in JSON Schema.
CONTENT_LIMITS: dict[str, Any] = {"maxLength": MAX_TEXT}
TEXT_LIMITS: dict[str, Any] = {"minLength": 1, **CONTENT_LIMITS}
LIST_LIMITS: dict[str, Any] = {"minItems": 1, "maxItems": MAX_ITEMS}
IMAGE_LIMITS: dict[str, Any] = {"minLength": 1, "maxLength": MAX_BASE64}


class Schema(BaseModel):
    """A request or response value. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_text(value: Any) -> Any:
    if value == "":
        raise InvalidInput("the text is empty")
    return _check_length(value)


def _check_length(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise TooLarge(f"the text has {len(value):,} characters; at most {MAX_TEXT:,} are accepted")
    return value


def _check_texts(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not value:
            raise InvalidInput("the list of texts is empty")
        if len(value) > MAX_ITEMS:
            raise TooLarge(f"the list has {len(value):,} texts; at most {MAX_ITEMS:,} are accepted")
    return value


def _to_messages(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else _check_texts(value)


Text = Annotated[
    str, BeforeValidator(_check_text), Field(json_schema_extra={"format": "text", **TEXT_LIMITS})
]
"""A text of 1 to 1,000,000 characters. A text over the model's limit is truncated or refused."""


class TextOrTokens(Schema):
    """An input with a text that a client may give as token ids, which are read as they are.

    `text` is then their text, for limits and echoes. The ids are no field: only a protocol sets them.
    """

    _token_ids: list[int] | None = PrivateAttr(None)

    def with_token_ids(self, ids: list[int]) -> Self:
        """Set the token ids. Returns the input."""
        self._token_ids = ids
        return self

    @property
    def token_ids(self) -> list[int] | None:
        """The token ids that the client gave, or None for a text."""
        return self._token_ids


Texts = Annotated[
    list[Text], BeforeValidator(_check_texts), Field(json_schema_extra={"format": "texts", **LIST_LIMITS})
]
"""1 to 1,000 texts that belong to one input."""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


Image = Annotated[
    bytes,
    BeforeValidator(image_bytes),
    PlainSerializer(_base64, when_used="json"),
    WithJsonSchema({"type": "string", "format": "image", "contentEncoding": "base64", **IMAGE_LIMITS}),
]
"""An encoded image; in JSON base64 or a data: URL."""

Unit = Annotated[float, Field(ge=0, le=1)]
"""A fraction or probability, 0 to 1."""


class Label(Schema):
    """A class and the model's score for it."""

    label: str
    score: float


class Box(Schema):
    """A rectangle in pixels of the input image; the origin is the upper left corner."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class DetectedObject(Schema):
    """An object detected in an image."""

    label: str
    score: float
    box: Box


Mask = Annotated[
    bytes,
    PlainSerializer(_base64, when_used="json"),
    WithJsonSchema({"type": "string", "format": "mask", "contentEncoding": "base64"}),
]
"""A PNG, 8 bit greyscale, of the image's size: 255 inside the segment; base64 in JSON."""


class Segment(Schema):
    """A region of an image. Semantic segmentation has no score."""

    label: str
    score: float | None = None
    mask: Mask


class Vector(Schema):
    """A vector and its index: a token id, or the position of a sentence in its list."""

    index: int
    values: list[float]


# A text can have a million tokens. Dictionaries pickle ten times faster than objects.
class TextToken(TypedDict):
    """A token of a text and its span in characters.

    A special token has no span, and no token has one if the tokenizer does not know them.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Message(Schema):
    """A turn of a conversation. Its content may be empty."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[
        str, BeforeValidator(_check_length), Field(json_schema_extra={"format": "text", **CONTENT_LIMITS})
    ]


def _check_last_turn(messages: list[Message]) -> list[Message]:
    if not messages[-1].content:
        raise InvalidInput("the last turn is empty")
    return messages


Messages = Annotated[
    list[Message],
    BeforeValidator(_to_messages),
    AfterValidator(_check_last_turn),
    Field(json_schema_extra={"format": "conversation", **LIST_LIMITS}),
]
"""A conversation, oldest turn first. A string is one user turn. The last turn must not be empty."""


def field_types(schema: type[BaseModel]) -> dict[str, str]:
    """Return each field's `format` ("text", "image", "conversation", ...), or else its JSON type."""
    return {
        name: _field_type(field) for name, field in schema.model_json_schema().get("properties", {}).items()
    }


def _field_type(field: dict[str, Any]) -> str:
    option = next((choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"), field)
    return str(field.get("format") or option.get("format") or option.get("type", "object"))
