"""What all OpenAI routes share: parsing a body, the capability that a route requires, calling the model, and
errors that name the client's own field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
)
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, TaskMismatch, TooLarge
from deployments.results import InferenceResults
from deployments.schema import CONTENT_LIMITS, MAX_ITEMS, MAX_TEXT, Schema, TextOrTokens, field_types
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, check_json, json_response, read_body
from deployments.wire.openai.unsupported_fields import (
    IGNORED_FIELDS,
    IGNORED_IN_OBJECTS,
    NEUTRAL_VALUES,
)
from deployments.wire.request_fields import RequestObject, check_fields

if TYPE_CHECKING:
    from deployments.routing.router import Router

DIALECT = "openai"
NON_JSON_MEDIA = {"audio", "font", "image", "multipart", "video"}
MAX_TOKEN_ID = 2**31 - 1
UNION_TAGS = {"single", "list", "token_ids", "token_id_lists"}
"""Tags of the unions below. Pydantic puts them in the location of an error; clients must not see them."""


class OpenAIObject(RequestObject):
    """A JSON object in a request. Null means absent."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    ignored_fields = IGNORED_IN_OBJECTS


class OpenAIRequest(OpenAIObject):
    """The body of a request."""

    ignored_fields = IGNORED_FIELDS
    neutral_values = NEUTRAL_VALUES

    model: str | None = Field(None, description="The model's id; optional only where the path has it.")


def _refuse(value: Any, info: ValidationInfo) -> None:
    if value not in (None, False, [], {}):
        raise InvalidInput(f"`{info.field_name}` is not supported; leave it out", field=info.field_name)


Unsupported = Annotated[
    Any,
    BeforeValidator(_refuse),
    Field(
        description="Not supported: absent, null, false or empty.",
        json_schema_extra={"enum": [None, False, 0, [], {}]},
    ),
]


def single_or_list(value: Any) -> str:
    """Return the tag of a union of a text and a list or an object."""
    return "single" if isinstance(value, str) else "list"


def _texts_or_tokens_tag(value: Any) -> str:
    if isinstance(value, str):
        return "single"
    first = value[0] if isinstance(value, list) and value else None
    return "token_ids" if isinstance(first, int) else "token_id_lists" if isinstance(first, list) else "list"


NonEmptyText = Annotated[str, Field(min_length=1, json_schema_extra=CONTENT_LIMITS)]
TextList = Annotated[list[NonEmptyText], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
_TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
TokenIds = Annotated[list[_TokenId], Field(min_length=1, max_length=MAX_TEXT, fail_fast=True)]
_TokenIdLists = Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]

TextOrTexts = Annotated[
    Annotated[NonEmptyText, Tag("single")] | Annotated[TextList, Tag("list")],
    Discriminator(single_or_list),
]
"""A text, or a list of texts."""

TextsOrTokens = Annotated[
    Annotated[NonEmptyText, Tag("single")]
    | Annotated[TextList, Tag("list")]
    | Annotated[TokenIds, Tag("token_ids")]
    | Annotated[_TokenIdLists, Tag("token_id_lists")],
    Discriminator(_texts_or_tokens_tag),
]
"""A text, a list of texts, a text's token ids, or a list of such lists."""

R = TypeVar("R", bound=OpenAIRequest)


async def parse_body(request: Request, type_: type[R]) -> R:
    """Parse the body. Raises `InvalidInput` that names the field, `UnsupportedMedia`, `TooLarge`."""
    media = request.headers.get("content-type", "")
    if media.partition("/")[0].strip().lower() in NON_JSON_MEDIA:
        raise UnsupportedMedia(f"the Content-Type {media!r} is not supported; send application/json")
    body = await read_body(request)
    check_json(body)
    try:
        parsed = type_.model_validate_json(body)
    except ValidationError as invalid:
        raise _to_invalid_input(invalid) from None
    check_fields(parsed)
    return parsed


def _to_invalid_input(invalid: ValidationError) -> InvalidInput:
    errors = invalid.errors(include_url=False, include_input=False, include_context=False)
    # An unsupported type of one field often makes another appear missing: report the former.
    error = next((error for error in errors if error["type"] != "missing"), errors[0])
    path = _field_path(error["loc"])
    return InvalidInput(f"`{path}`: {error['msg']}" if path else error["msg"], field=path or None)


def _field_path(location: Sequence[int | str]) -> str:
    """Format a pydantic location as the path of a field, like "messages[0].content"."""
    parts = [part for part in location if part not in UNION_TAGS]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)[1:]


def model_id_of(request: Request, body: OpenAIRequest) -> str:
    """Return the model's id from the path, or else from the body. Raises `InvalidInput` if both lack it."""
    model_id: str | None = request.path_params.get("model_id") or body.model
    if not model_id:
        raise InvalidInput("`model` is missing: give the id of a model", field="model")
    return model_id


def respond_with(content: BaseModel) -> Response:
    """Create a JSON response."""
    return json_response(content.model_dump(mode="json"))


@dataclass(frozen=True)
class Capability:
    """What a route requires of a model, decided by the schemas of the model's task.

    The only required input field has the schema type `input_type`, and the output has the field
    `output_field`. `action` completes the error "the model cannot ...".
    """

    action: str
    input_type: str
    output_field: str

    def field(self, task: Task) -> str | None:
        """Return the name of the required input field, or None if the task lacks the capability."""
        name, type_ = _only_required_field(task.input)
        has_output = self.output_field in task.output.model_fields
        return name if type_ == self.input_type and has_output else None

    def require(self, task: Task, model_id: str) -> str:
        """Return the name of the required input field. Raises `TaskMismatch`."""
        field = self.field(task)
        if field is None:
            summary = task.summary.rstrip(".")
            raise TaskMismatch(
                f"the model {model_id!r} performs {task.name}: {summary!r}; it cannot {self.action}"
            )
        return field


@cache
def _only_required_field(input_: type[Schema]) -> tuple[str | None, str | None]:
    """Return the name and schema type of the only required field, or Nones."""
    required = [name for name, field in input_.model_fields.items() if field.is_required()]
    return (required[0], field_types(input_)[required[0]]) if len(required) == 1 else (None, None)


async def validate_inputs(
    router: "Router", task: Task, inputs: list[Any], params: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[list[Schema], Schema]:
    """Validate inputs and parameters against the task.

    `names` maps the task's fields to the client's, for errors. Its first entry is the field of the inputs: an
    error that names no field gets that one.
    """
    try:
        return await router.validator.validate(task, DIALECT, inputs, params, names)
    except InferenceError as error:
        if error.field:
            raise
        field = next(iter(names.values()))
        raise error.restated(f"`{field}`: {error}", field=field) from None


async def to_texts(
    router: "Router", model_id: str, value: Any, param: str
) -> tuple[list[str], list[list[int]]]:
    """Convert a `TextsOrTokens` value to texts; return also the token ids that they come from, if any.

    The model's tokenizer decodes token ids. An error names the field `param`.
    """
    tag = _texts_or_tokens_tag(value)
    if tag in ("single", "list"):
        return [value] if tag == "single" else value, []
    token_id_lists = [value] if tag == "token_ids" else value
    try:
        texts = await router.decode(model_id, token_id_lists, False)
    except (InvalidInput, TooLarge) as error:
        raise error.restated(f"`{param}`: {error}", field=param) from None
    return [text or " " for text in texts], token_id_lists  # the ids count, even if they have no text


def with_token_ids(inputs: list[Schema], token_id_lists: list[list[int]], param: str) -> list[Schema]:
    """Set the token ids that the client gave in `param`, so that the model reads exactly these.

    Raises `InvalidInput` if the task reads texts only.
    """
    for input_, ids in zip(inputs, token_id_lists, strict=False):  # of texts there are no ids
        if not isinstance(input_, TextOrTokens):
            raise InvalidInput(f"`{param}`: this model reads texts, not token ids", field=param)
        input_.with_token_ids(ids)
    return inputs


async def infer_texts(
    router: "Router", model_id: str, capability: Capability, value: Any, params: Mapping[str, Any]
) -> InferenceResults:
    """Run the model on each text of `value`, the client's field `input`. Raises the first input's error."""
    task = router.task(model_id)
    field = capability.require(task, model_id)
    texts, token_id_lists = await to_texts(router, model_id, value, "input")
    inputs, task_params = await validate_inputs(
        router, task, [{field: text} for text in texts], params, {field: "input"}
    )
    inputs = with_token_ids(inputs, token_id_lists, "input")
    results = await router.infer(model_id, inputs, task_params)
    raise_first_error(results, "input")
    return results


def raise_first_error(results: InferenceResults, param: str) -> None:
    """Raise the first error among the results; it names its index in the client's field `param`."""
    for index, output in enumerate(results):
        if isinstance(output, InferenceError):
            field = f"{param}[{index}]"
            raise output.restated(f"`{field}`: {output}", field=field) if len(results) > 1 else output
