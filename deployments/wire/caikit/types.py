"""Caikit's messages, as schemas that its gRPC and its JSON have in common, and which of them a task speaks.

Two tables say what a task's words are called there: `ARGUMENTS` for its input, `ANSWERS` for its output. A
task that speaks in other words is spoken with its own schemas.
"""

import base64
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, create_model

from deployments.errors import InvalidInput
from deployments.schema import Box, DetectedObject, Label, Schema, Segment, Vector, field_types
from deployments.wire.annotations import strip_annotated, unwrap_optional
from deployments.wire.protobuf import Number

ARGUMENTS = {"text": "text_in", "conversation": "text_in", "image": "encoded_bytes_or_url"}
"""What a string that means this is called in a request; anything else keeps its field's name."""


class ClassInfo(Schema):
    class_name: str
    confidence: float


class ClassificationPrediction(Schema):
    classes: list[ClassInfo]

    @classmethod
    def of(cls, labels: list[Label]) -> "ClassificationPrediction":
        return cls(classes=[ClassInfo(class_name=one.label, confidence=one.score) for one in labels])


class ObjectDetected(Schema):
    label: str
    score: float
    box: Box


class ObjectDetectionResult(Schema):
    objects: list[ObjectDetected]

    @classmethod
    def of(cls, found: list[DetectedObject]) -> "ObjectDetectionResult":
        return cls(objects=[ObjectDetected(label=one.label, score=one.score, box=one.box) for one in found])


class Mask(Schema):
    label: str
    score: float | None
    mask: str


class ImageSegmentationResult(Schema):
    objects: list[Mask]

    @classmethod
    def of(cls, segments: list[Segment]) -> "ImageSegmentationResult":
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
    def of(cls, vectors: list[Vector]) -> "Result":
        # As they are: numbers that may be a million have been validated.
        pairs = [EmbeddingsPair.model_construct(input=one.index, output=one.values) for one in vectors]
        return cls.model_construct(output=pairs)


class Text(Schema):
    text: str


ANSWERS: dict[Any, Any] = {
    Label: ClassificationPrediction,
    DetectedObject: ObjectDetectionResult,
    Segment: ImageSegmentationResult,
    Vector: Result,
}
"""What holds a list of these."""


class RuntimeInfoRequest(Schema):
    pass


class RuntimeInfoResponse(Schema):
    runtime_version: str
    python_packages: dict[str, str]


class ModelInfoRequest(Schema):
    model_ids: list[str]


class ModelInfo(Schema):
    """One model; of one that is not loaded, only the name is told."""

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
    """The field behind each of Caikit's arguments. What has a default is no argument."""
    required = [name for name, field in input_.model_fields.items() if field.is_required()]
    names = [ARGUMENTS.get(field_types(input_)[field], field) for field in required]
    return dict(zip(names if len({*names}) == len(names) else required, required, strict=True))


def request(name: str, input_: type[Schema]) -> type[BaseModel]:
    """The schema of these arguments, under the request message's name."""
    meant = field_types(input_)
    types: dict[str, Any] = {
        argument: (
            str if meant[field] in ARGUMENTS else strip_annotated(input_.model_fields[field].annotation),
            ...,
        )
        for argument, field in arguments(input_).items()
    }
    return create_model(name, **types)


def answer(output: type[Schema]) -> tuple[type[BaseModel], Callable[[Any], BaseModel]]:
    """The schema of the answer, and what makes it from a task's output."""
    fields = output.model_fields
    for name, field in fields.items():
        if kind := ANSWERS.get(_element(field.annotation)):
            return kind, partial(_of_list, kind, name)
    required = [name for name, field in fields.items() if field.is_required()]
    if len(required) == 1 and strip_annotated(fields[required[0]].annotation) is str:
        return Text, lambda value: Text(text=getattr(value, required[0]))
    return output, lambda value: value


def _element(annotation: Any) -> Any:
    """What `annotation` is a list of, or None."""
    kind = unwrap_optional(strip_annotated(annotation))
    return get_args(kind)[0] if get_origin(kind) is list else None


def _of_list(kind: Any, name: str, output: Schema) -> BaseModel:
    values = getattr(output, name)
    if values is None:
        raise InvalidInput(f"these parameters leave out `{name}`, which is all that Caikit answers here")
    made: BaseModel = kind.of(values)
    return made
