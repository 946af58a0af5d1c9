"""Object detection: a picture in, the things on it and where they are out."""

from typing import Any

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, Picture, Size
from deployments.schema import Box, DetectedObject, Image, Schema, Unit
from deployments.task import Encoded, Module, task


class ObjectDetectionInput(Schema):
    image: Image = Field(description="The picture to search.", examples=[EXAMPLE_IMAGE])


class ObjectDetectionParams(Schema):
    threshold: Unit = Field(0.5, description="Only objects with a better score than this are returned.")


class ObjectDetectionOutput(Schema):
    objects: list[DetectedObject] = Field(description="What was found, best first.")


@task("object-detection")
class ObjectDetection(Module):
    """Find the things on a picture."""

    module_id = "D4C4B6CF-E0C3-4B3F-A325-5071FB126773"
    default_model = "hustvl/yolos-tiny"
    default_revision = "3686e65df0c914833fc8cbeca745a33b374c499b"
    unit = "pixels"

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForObjectDetection

        self.images = ImageModel(checkpoint, AutoModelForObjectDetection)
        self.model, self.processor = self.images.model, self.images.processor

    def encode(self, inputs: list[ObjectDetectionInput], params: ObjectDetectionParams) -> list[Encoded]:
        return self.images.encode(inputs)

    def run(self, inputs: list[Picture], params: ObjectDetectionParams) -> list[ObjectDetectionOutput]:
        def read(outputs: Any, sizes: list[Size]) -> list[ObjectDetectionOutput]:
            found = self.processor.post_process_object_detection(
                outputs, threshold=params.threshold, target_sizes=sizes
            )
            return [self._objects(one, size) for one, size in zip(found, sizes, strict=True)]

        return self.images.run(inputs, read)

    def _objects(self, found: dict[str, Any], size: Size) -> ObjectDetectionOutput:
        values = zip(*(found[name].tolist() for name in ("labels", "scores", "boxes")), strict=True)
        objects = [
            DetectedObject(label=self.model.config.id2label[label], score=score, box=_box(corners, size))
            for label, score, corners in values
        ]
        return ObjectDetectionOutput(objects=sorted(objects, key=lambda found: -found.score))


def _box(corners: list[float], size: Size) -> Box:
    height, width = size
    xmin, ymin, xmax, ymax = (
        min(max(round(place), 0), edge) for place, edge in zip(corners, (width, height) * 2, strict=True)
    )
    return Box(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
