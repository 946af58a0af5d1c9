"""Text Embeddings Inference's requests and answers.

Empty texts and lists, and lists that are too long, are refused here already.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel, ValidationError, WrapValidator

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS, MAX_TEXT, Label, Schema, Text, TextToken
from deployments.wire.tei.errors import Empty

PARAMS = {"normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"}
"""Fields of requests that are parameters of a task, by the same names."""


def _filled(value: Any, info: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    limit = MAX_TEXT if items and isinstance(items[0], int) else MAX_ITEMS  # numbers are one text's tokens
    if len(items) > limit:
        raise TooLarge(
            f"`{info.field_name}` has {len(items):,} items; at most {limit:,} are accepted",
            field=info.field_name,
        )
    if not items or any(item in ("", []) for item in items):
        raise Empty(f"`{info.field_name}` is empty, or holds what is empty", field=info.field_name)
    return value


def _shaped(shape: str) -> WrapValidator:
    """Tells the one shape that is meant, where pydantic would list each that is not."""

    def check(value: Any, validate: Callable[[Any], Any], info: Any) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise InvalidInput(f"`{info.field_name}` is {shape}", field=info.field_name) from None

    return WrapValidator(check)


Stop = Field(fail_fast=True)  # a list's first mistake is told; a long one could hold a million
Row = Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Stop]
OneText = Annotated[Text, BeforeValidator(_filled)]
ManyTexts = Annotated[list[Text], Stop, BeforeValidator(_filled), _shaped("a list of texts")]
Inputs = Annotated[
    Text | Row | Annotated[list[Text | Row], Stop],
    BeforeValidator(_filled),
    _shaped("a text, a list of texts, a list of token ids, or a list of such lists"),
]
TokenizeInputs = Annotated[
    Text | Annotated[list[Text], Stop], BeforeValidator(_filled), _shaped("a text, or a list of texts")
]
Ids = Annotated[
    Row | Annotated[list[Row], Stop],
    BeforeValidator(_filled),
    _shaped("a list of token ids, or a list of such lists"),
]
PredictInputs = Annotated[
    Text | Annotated[list[Text], Stop] | Annotated[list[list[Text]], Stop],
    BeforeValidator(_filled),
    _shaped("a text, or a list of lists that hold a text each"),
]
Flag = Annotated[bool, BeforeValidator(lambda value: False if value is None else value)]
Side = Annotated[
    Literal["left", "right"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]


class Cut(Schema):
    """What happens to a text that is too long for the model."""

    truncate: Flag = Field(False, description="Cut it at the model's limit; otherwise it is refused.")
    truncation_direction: Side = Field("right", description="The side on which it is cut.")


class TeiEmbedAllRequest(Cut):
    inputs: Inputs
    prompt_name: str | None = Field(None, description="Which of the checkpoint's prompts goes before a text.")


class TeiEmbedRequest(TeiEmbedAllRequest):
    normalize: bool = Field(True, description="Scale vectors to length 1.")
    dimensions: int | None = Field(None, ge=1, description="Keep only so many of a vector's first numbers.")
    encoding_format: Literal["float"] | None = None


class SimilarityParameters(Cut):
    prompt_name: str | None = None


class SimilarityInput(Schema):
    source_sentence: OneText
    sentences: ManyTexts


class TeiSimilarityRequest(Schema):
    inputs: SimilarityInput
    parameters: SimilarityParameters | None = None


class TeiRerankRequest(Cut):
    query: OneText
    texts: ManyTexts
    raw_scores: bool = Field(False, description="Changes nothing: scores are cosines either way.")
    return_text: bool = False


class TeiPredictRequest(Cut):
    inputs: PredictInputs
    raw_scores: bool = Field(False, description="Return the network's outputs as they are.")

    def texts(self) -> tuple[list[str], bool]:
        """The texts, and whether they came as a batch. Raises `InvalidInput` for pairs."""
        given = [self.inputs] if isinstance(self.inputs, str) else self.inputs
        batch = isinstance(given[0], list)
        rows: list[Any] = given if batch else [given]
        if any(len(row) != 1 for row in rows):
            raise InvalidInput(
                "[a, b] is a pair of texts, and no model here reads pairs; a batch is [[a], [b]]"
            )
        return [text for (text,) in rows], batch


class TeiTokenizeRequest(Schema):
    inputs: TokenizeInputs
    add_special_tokens: bool = True
    prompt_name: None = Field(None, description="Prompts belong to /embed.")


class TeiDecodeRequest(Schema):
    ids: Ids
    skip_special_tokens: bool = True


class TeiEmbedAnswer(RootModel[list[list[float]]]):
    """A vector per text."""


class TeiEmbedAllAnswer(RootModel[list[list[list[float]]]]):
    """A vector per token of each text."""


class TeiSimilarityAnswer(RootModel[list[float]]):
    """How near each sentence is, -1 to 1."""


class Rank(Schema):
    index: int
    score: float
    text: str | None = None


class TeiPredictAnswer(RootModel[list[Label] | list[list[Label]]]):
    """The labels of a text, best first, or of each text of a batch."""


class TeiTokenizeAnswer(RootModel[list[list[TextToken]]]):
    """The tokens of each text."""


class TeiDecodeAnswer(RootModel[list[str]]):
    """The text of each list of token ids."""
