"""Caikit's messages, as schemas for gRPC and JSON, and the messages that a task uses.

Two tables map the types of a task's fields to Caikit's names: `ARGUMENTS` for the input, `RESULTS` for the
output. A task whose types are in neither table uses its own schemas.
"""

import base64
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from deployments.errors import InvalidInput
from deployments.schema import (
    IMAGE_LIMITS,
    LIST_LIMITS,
    TEXT_LIMITS,
    Box,
    DetectedObject,
    Label,
    Schema,
    Segment,
    Vector,
    field_types,
)
from deployments.wire.annotations import strip_annotated, unwrap_optional
from deployments.wire.protobuf import Number

ARGUMENTS = {"text": "text_in", "conversation": "text_in", "image": "encoded_bytes_or_url"}
"""The name of an argument by its field type. A field of another type keeps its name."""


TEXTS_LIMITS = {**LIST_LIMITS, "items": {"type": "string", **TEXT_LIMITS}}
LIMITS = {"text": TEXT_LIMITS, "texts": TEXTS_LIMITS, "conversation": TEXT_LIMITS, "image": IMAGE_LIMITS}
"""The limits of an argument by its field type; the task enforces them."""


class ClassInfo(Schema):
    class_name: str
    confidence: float


class ClassificationPrediction(Schema):
    classes: list[ClassInfo]

    @classmethod
    def from_items(cls, labels: list[Label]) -> "ClassificationPrediction":
        return cls(classes=[ClassInfo(class_name=label.label, confidence=label.score) for label in labels])


class ObjectDetected(Schema):
    label: str
    score: float
    box: Box


class ObjectDetectionResult(Schema):
    objects: list[ObjectDetected]

    @classmethod
    def from_items(cls, detected: list[DetectedObject]) -> "ObjectDetectionResult":
        objects = [ObjectDetected(label=item.label, score=item.score, box=item.box) for item in detected]
        return cls(objects=objects)


class Mask(Schema):
    label: str
    score: float | None
    mask: str


class ImageSegmentationResult(Schema):
    objects: list[Mask]

    @classmethod
    def from_items(cls, segments: list[Segment]) -> "ImageSegmentationResult":
        return cls(
            objects=[
                Mask(label=s.label, score=s.score, mask=base64.b64encode(s.mask).decode()) for s in segments
            ]
        )


class EmbeddingsPair(Schema):
    input: int
    output: list[float]


class Result(Schema):
    output: list[EmbeddingsPair]

    @classmethod
    def from_items(cls, vectors: list[Vector]) -> "Result":
        # Without validation: the task has validated the numbers, and there may be a million.
        pairs = [EmbeddingsPair.model_construct(input=item.index, output=item.values) for item in vectors]
        return cls.model_construct(output=pairs)


class Text(Schema):
    text: str


RESULTS: dict[Any, Any] = {
    Label: ClassificationPrediction,
    DetectedObject: ObjectDetectionResult,
    Segment: ImageSegmentationResult,
    Vector: Result,
}
"""The message that holds a list of these."""


class RuntimeInfoRequest(Schema):
    pass


class RuntimeInfoResponse(Schema):
    runtime_version: str
    python_packages: dict[str, str]


class ModelInfoRequest(Schema):
    model_ids: list[str]


class ModelInfo(Schema):
    """A model's facts. If it is not loaded, only the name is set."""

    model_path: str | None = None
    name: str
    size: int | None = None
    metadata: dict[str, Any] | None = None
    loaded: Annotated[bool, Number(7)] = False
    module_id: str | None = None
    module_metadata: dict[str, str] | None = None


class ModelInfoResponse(Schema):
    models: list[ModelInfo]


def arguments(input_: type[Schema]) -> dict[str, str]:
    """Map Caikit's arguments to the fields of a task's input. A field with a default is no argument."""
    required = [name for name, field in input_.model_fields.items() if field.is_required()]
    names = [ARGUMENTS.get(field_types(input_)[field], field) for field in required]
    return dict(zip(names if len({*names}) == len(names) else required, required, strict=True))


def _argument_type(meaning: str, annotation: Any) -> Any:
    return str if meaning in ARGUMENTS else strip_annotated(annotation)


def request_schema(name: str, input_: type[Schema]) -> type[BaseModel]:
    """Return the schema of the arguments, with the request message's name."""
    meanings = field_types(input_)
    types: dict[str, Any] = {
        argument: (
            _argument_type(meanings[field], input_.model_fields[field].annotation),
            Field(json_schema_extra=LIMITS.get(meanings[field])),
        )
        for argument, field in arguments(input_).items()
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **types)


def response_schema(output: type[Schema]) -> tuple[type[BaseModel], Callable[[Any], BaseModel]]:
    """Return the schema of the response, and the function that converts a task's output to it."""
    fields = output.model_fields
    for name, field in fields.items():
        if result := RESULTS.get(_item_type(field.annotation)):
            return result, partial(_from_list, result, name)
    required = [name for name, field in fields.items() if field.is_required()]
    if len(required) == 1 and strip_annotated(fields[required[0]].annotation) is str:
        return Text, lambda value: Text(text=getattr(value, required[0]))
    return output, lambda value: value


def _item_type(annotation: Any) -> Any:
    """Return the type of the items of a list type; None for another type."""
    type_ = unwrap_optional(strip_annotated(annotation))
    return get_args(type_)[0] if get_origin(type_) is list else None


def _from_list(result: Any, name: str, output: Schema) -> BaseModel:
    items = getattr(output, name)
    if items is None:
        raise InvalidInput(f"with these parameters the output has no `{name}`, which Caikit's response needs")
    response: BaseModel = result.from_items(items)
    return response
