"""Text Embeddings Inference's requests and responses.

The types of the requests refuse empty texts, empty lists and lists that are too long.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel, ValidationError, WrapValidator

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import LIST_LIMITS, MAX_ITEMS, MAX_TEXT, Label, Schema, Text, TextToken
from deployments.wire.request_fields import RequestObject
from deployments.wire.tei.errors import Empty

TASK_PARAMS = {"normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"}
"""Fields of requests that are parameters of a task, with the same names."""


def _check_length(value: Any, info: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    limit = MAX_TEXT if items and isinstance(items[0], int) else MAX_ITEMS  # integers are one text's tokens
    if len(items) > limit:
        raise TooLarge(
            f"`{info.field_name}` has {len(items):,} items; at most {limit:,} are accepted",
            field=info.field_name,
        )
    if any(isinstance(item, list) and len(item) > MAX_TEXT for item in items):
        problem = f"`{info.field_name}` has an item with over {MAX_TEXT:,} items"
        raise TooLarge(problem, field=info.field_name)
    if not items or any(item in ("", []) for item in items):
        raise Empty(f"`{info.field_name}` is empty or has an empty item", field=info.field_name)
    return value


def _expect(shape: str) -> WrapValidator:
    """Return a validator whose error names the expected shape, instead of every type that did not match."""

    def check(value: Any, validate: Callable[[Any], Any], info: Any) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise InvalidInput(f"`{info.field_name}` must be {shape}", field=info.field_name) from None

    return WrapValidator(check)


FailFast = Field(fail_fast=True)  # report a list's first error only; a long list could have a million
OneText = Field(json_schema_extra={"minItems": 1, "maxItems": 1})
Items = Field(json_schema_extra=LIST_LIMITS)
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, strict=True)]],
    FailFast,
    Field(json_schema_extra={"minItems": 1, "maxItems": MAX_TEXT}),
]
NonEmptyText = Annotated[Text, BeforeValidator(_check_length)]
NonEmptyTexts = Annotated[
    list[Text], FailFast, Items, BeforeValidator(_check_length), _expect("a list of texts")
]
Inputs = Annotated[
    Text | TokenIds | Annotated[list[Text | TokenIds], FailFast, Items],
    BeforeValidator(_check_length),
    _expect("a text, a list of texts, a list of token ids, or a list of such lists"),
]
TokenizeInputs = Annotated[
    Text | Annotated[list[Text], FailFast, Items],
    BeforeValidator(_check_length),
    _expect("a text, or a list of texts"),
]
DecodeIds = Annotated[
    TokenIds | Annotated[list[TokenIds], FailFast, Items],
    BeforeValidator(_check_length),
    _expect("a list of token ids, or a list of such lists"),
]
PredictInputs = Annotated[
    Text
    | Annotated[list[Text], FailFast, OneText]
    | Annotated[list[Annotated[list[Text], OneText]], FailFast, Items],
    BeforeValidator(_check_length),
    _expect("a text, or a list of lists with one text each"),
]
Flag = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]
_Lowercase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
TruncationSide = Annotated[Literal["left", "right"], _Lowercase]


class TruncationParams(RequestObject):
    """How to treat a text that is too long for the model."""

    truncate: Flag = Field(False, description="Truncate a text at the model's limit, instead of an error.")
    truncation_direction: TruncationSide = Field("right", description="The side on which to remove tokens.")


class TeiEmbedAllRequest(TruncationParams):
    inputs: Inputs
    prompt_name: str | None = Field(
        None, description="The name of the checkpoint's prompt to put before each text."
    )


class TeiEmbedRequest(TeiEmbedAllRequest):
    normalize: bool = Field(True, description="Scale vectors to length 1.")
    dimensions: int | None = Field(
        None, ge=1, description="The number of leading values to keep of each vector."
    )
    encoding_format: Literal["float"] | None = None


class RankingParams(TruncationParams):
    """How to treat long texts that are compared."""

    truncation_direction: Annotated[Literal["right"], _Lowercase] = Field(
        "right", description="Only `right` is supported here."
    )


class SimilarityParameters(RankingParams):
    prompt_name: None = Field(None, description="Not supported here; /embed supports prompts.")


class SimilarityInput(RequestObject):
    source_sentence: NonEmptyText
    sentences: NonEmptyTexts


class TeiSimilarityRequest(RequestObject):
    inputs: SimilarityInput
    parameters: SimilarityParameters | None = None


class TeiRerankRequest(RankingParams):
    query: NonEmptyText
    texts: NonEmptyTexts
    raw_scores: bool = Field(False, description="Has no effect: scores are always cosines.")
    return_text: bool = False


class TeiPredictRequest(TruncationParams):
    inputs: PredictInputs
    raw_scores: bool = Field(False, description="Return the logits, without softmax or sigmoid.")

    def texts(self) -> tuple[list[str], bool]:
        """Return the texts, and whether the request is a batch. Raises `InvalidInput` for pairs."""
        inputs = [self.inputs] if isinstance(self.inputs, str) else self.inputs
        batch = isinstance(inputs[0], list)
        items: list[Any] = inputs if batch else [inputs]
        if any(len(item) != 1 for item in items):
            raise InvalidInput(
                "`inputs` is a pair of texts, [a, b], which no model here accepts; a batch is [[a], [b]]",
                field="inputs",
            )
        return [text for (text,) in items], batch


class TeiTokenizeRequest(RequestObject):
    inputs: TokenizeInputs
    add_special_tokens: bool = True
    prompt_name: None = Field(None, description="Not supported here; /embed supports prompts.")


class TeiDecodeRequest(RequestObject):
    ids: DecodeIds
    skip_special_tokens: bool = True


class TeiEmbedAnswer(RootModel[list[list[float]]]):
    """One vector per text."""


class TeiEmbedAllAnswer(RootModel[list[list[list[float]]]]):
    """One vector per token of each text."""


class TeiSimilarityAnswer(RootModel[list[float]]):
    """The cosine similarity of each sentence to the source sentence, -1 to 1."""


class Rank(Schema):
    index: int
    score: float
    text: str | None = None


class TeiPredictAnswer(RootModel[list[Label] | list[list[Label]]]):
    """The labels of a text, best first; for a batch, of each text."""


class TeiTokenizeAnswer(RootModel[list[list[TextToken]]]):
    """The tokens of each text."""


class TeiDecodeAnswer(RootModel[list[str]]):
    """The text of each list of token ids."""
