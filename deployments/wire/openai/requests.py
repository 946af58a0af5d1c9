"""What every OpenAI request has in common: how it is read, what its model must be able to do, and how a
failure names the caller's own field."""

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
from deployments.schema import MAX_ITEMS, MAX_TEXT, Schema, field_types
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, check_json, json_response, read_body

if TYPE_CHECKING:
    from deployments.routing.router import Router

DIALECT = "openai"
NOT_JSON = {"audio", "font", "image", "multipart", "video"}
MAX_TOKEN_ID = 2**31 - 1
SHAPES = {"one", "several", "ids", "rows"}
"""The shapes of one or several texts; pydantic names them in an error's place, callers must not see them."""


class Asked(BaseModel):
    """What callers send. Fields unknown here are ignored, as other servers of this protocol do; null means
    absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class OpenAIRequest(Asked):
    """A body."""

    model: str | None = Field(None, description="The model's id; only a path that holds one needs none.")


def _refuse(value: Any, info: ValidationInfo) -> None:
    if value not in (None, False, [], {}):
        raise InvalidInput(f"`{info.field_name}` is not supported; leave it out", field=info.field_name)


Unsupported = Annotated[
    Any, BeforeValidator(_refuse), Field(description="Not supported: absent, null, false or empty.")
]


def one_or_several(value: Any) -> str:
    """Tells a union's choices, tagged so, apart."""
    return "one" if isinstance(value, str) else "several"


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return "one"
    first = value[0] if isinstance(value, list) and value else None
    return "ids" if isinstance(first, int) else "rows" if isinstance(first, list) else "several"


Line = Annotated[str, Field(min_length=1)]
Lines = Annotated[list[Line], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
_Id = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
Ids = Annotated[list[_Id], Field(min_length=1, max_length=MAX_TEXT, fail_fast=True)]
_Rows = Annotated[list[Ids], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]

OneOrSeveral = Annotated[
    Annotated[Line, Tag("one")] | Annotated[Lines, Tag("several")],
    Discriminator(one_or_several),
]
"""A text, or a list of texts."""

TextsOrTokens = Annotated[
    Annotated[Line, Tag("one")]
    | Annotated[Lines, Tag("several")]
    | Annotated[Ids, Tag("ids")]
    | Annotated[_Rows, Tag("rows")],
    Discriminator(_shape),
]
"""A text, a list of texts, a text's token ids, or a list of such lists."""

R = TypeVar("R", bound=OpenAIRequest)


async def read(request: Request, type_: type[R]) -> R:
    """The body as a `type_`. Raises `InvalidInput` that names the field, `UnsupportedMedia`, `TooLarge`."""
    media = request.headers.get("content-type", "")
    if media.partition("/")[0].strip().lower() in NOT_JSON:
        raise UnsupportedMedia(f"the Content-Type {media!r} is not understood; send application/json")
    body = await read_body(request)
    check_json(body)
    try:
        return type_.model_validate_json(body)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False, include_context=False)
        # What is missing is often missing because another field is of a kind that is not read here.
        wrong = next((error for error in errors if error["type"] != "missing"), errors[0])
        where = _place(wrong["loc"])
        sentence = f"`{where}`: {wrong['msg']}" if where else wrong["msg"]
        raise InvalidInput(sentence, field=where or None) from None


def model_of(request: Request, asked: OpenAIRequest) -> str:
    """The id of the model that is asked: the path's, or else the body's. Raises `InvalidInput` without."""
    model_id: str | None = request.path_params.get("model_id") or asked.model
    if not model_id:
        raise InvalidInput("`model` is missing: name the model to ask", field="model")
    return model_id


def respond_with(answer: BaseModel) -> Response:
    return json_response(answer.model_dump(mode="json"))


@dataclass(frozen=True)
class Ability:
    """What a model can be asked, read off its task's schemas: its one required field means `word`, and its
    output has the field `answer`. `does` says it in words."""

    does: str
    word: str
    answer: str

    def field(self, task: Task) -> str | None:
        """The input's field that holds what is asked, if the task has the ability."""
        name, word = _lone_field(task.input)
        return name if word == self.word and self.answer in task.output.model_fields else None

    def require(self, task: Task, model_id: str) -> str:
        """The same; raises `TaskMismatch` that tells what the model does instead."""
        field = self.field(task)
        if field is None:
            told = f"the model {model_id!r} performs {task.name}: {task.summary.rstrip('.')!r}"
            raise TaskMismatch(f"{told}; it does not {self.does}")
        return field


async def read_items(
    router: "Router", task: Task, items: list[Any], params: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[list[Schema], Schema]:
    """The items and parameters as the task reads them. What is wrong is told by the caller's `names` of the
    task's own; the first of them is the items' own."""
    try:
        return await router.validator.validate(task, DIALECT, items, params, names)
    except InferenceError as error:
        if error.field:
            raise
        where = next(iter(names.values()))
        raise error.restated(f"`{where}`: {error}", field=where) from None


async def texts_of(
    router: "Router", model_id: str, given: Any, param: str, *, skip_special: bool = True
) -> list[str]:
    """The texts that were given in `param` as `TextsOrTokens`; token ids are the model's own."""
    shape = _shape(given)
    if shape in ("one", "several"):
        return [given] if shape == "one" else given
    rows = [given] if shape == "ids" else given
    try:
        return await router.decode(model_id, rows, skip_special)
    except (InvalidInput, TooLarge) as error:
        raise error.restated(f"`{param}`: {error}", field=param) from None


def outputs_of(answers: InferenceResults, param: str) -> list[Any]:
    """All outputs; one that failed fails the request, by its place in the caller's `param`."""
    for place, output in enumerate(answers):
        if isinstance(output, InferenceError):
            where = f"{param}[{place}]"
            raise output.restated(f"`{where}`: {output}", field=where) if len(answers) > 1 else output
    return list(answers)


@cache
def _lone_field(input_: type[Schema]) -> tuple[str | None, str | None]:
    """The only required field of an Input, and what it means."""
    required = [name for name, field in input_.model_fields.items() if field.is_required()]
    return (required[0], field_types(input_)[required[0]]) if len(required) == 1 else (None, None)


def _place(parts: Sequence[int | str]) -> str:
    """The path of a field: "messages[0].content"."""
    named = [part for part in parts if part not in SHAPES]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in named)[1:]
