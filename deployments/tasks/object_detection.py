"""Object detection: an image in, its objects with their boxes out."""

from typing import Any

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, PreprocessedImage, Size
from deployments.schema import Box, DetectedObject, Image, Schema, Unit
from deployments.task import Encoded, Module, task


class ObjectDetectionInput(Schema):
    image: Image = Field(description="The image to search.", examples=[EXAMPLE_IMAGE])


class ObjectDetectionParams(Schema):
    threshold: Unit = Field(0.5, description="The minimum score of an object.")


class ObjectDetectionOutput(Schema):
    objects: list[DetectedObject] = Field(description="The detected objects, best first.")


@task("object-detection")
class ObjectDetection(Module):
    """Detect objects in an image."""

    module_id = "D4C4B6CF-E0C3-4B3F-A325-5071FB126773"
    default_model = "hustvl/yolos-tiny"
    default_revision = "3686e65df0c914833fc8cbeca745a33b374c499b"
    network_kinds = ("OBJECT_DETECTION",)
    unit = "pixels"

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForObjectDetection

        self.images = ImageModel(checkpoint, AutoModelForObjectDetection)
        self.model, self.processor = self.images.model, self.images.processor

    def encode(self, inputs: list[ObjectDetectionInput], params: ObjectDetectionParams) -> list[Encoded]:
        return self.images.encode(inputs)

    def run(
        self, inputs: list[PreprocessedImage], params: ObjectDetectionParams
    ) -> list[ObjectDetectionOutput]:
        def post_process(outputs: Any, sizes: list[Size]) -> list[ObjectDetectionOutput]:
            detections = self.processor.post_process_object_detection(
                outputs, threshold=params.threshold, target_sizes=sizes
            )
            return [self._objects(detected, size) for detected, size in zip(detections, sizes, strict=True)]

        return self.images.run(inputs, post_process)

    def _objects(self, detected: dict[str, Any], size: Size) -> ObjectDetectionOutput:
        values = zip(*(detected[name].tolist() for name in ("labels", "scores", "boxes")), strict=True)
        objects = [
            DetectedObject(label=self.model.config.id2label[label], score=score, box=_box(corners, size))
            for label, score, corners in values
        ]
        return ObjectDetectionOutput(objects=sorted(objects, key=lambda item: -item.score))


def _box(corners: list[float], size: Size) -> Box:
    height, width = size
    xmin, ymin, xmax, ymax = (
        min(max(round(corner), 0), edge) for corner, edge in zip(corners, (width, height) * 2, strict=True)
    )
    return Box(xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
