"""Image classification: an image in, labels out."""

from typing import Any

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, PreprocessedImage, Size
from deployments.pipelines.labels import Function, top_labels
from deployments.schema import Image, Label, Schema
from deployments.task import Encoded, Module, task


class ImageClassificationInput(Schema):
    image: Image = Field(description="The image to classify.", examples=[EXAMPLE_IMAGE])


class ImageClassificationParams(Schema):
    top_k: int = Field(5, ge=1, description="How many labels to return.")
    function_to_apply: Function | None = Field(
        None,
        description="The activation that converts logits to scores; by default the checkpoint's.",
    )


class ImageClassificationOutput(Schema):
    labels: list[Label] = Field(description="The labels, best first.")


@task("image-classification")
class ImageClassification(Module):
    """Classify an image."""

    module_id = "D7B3B724-147B-41C1-A41E-A38F9D00F905"
    default_model = "google/vit-base-patch16-224"
    network_kinds = ("IMAGE_CLASSIFICATION",)
    unit = "pixels"

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForImageClassification

        self.images = ImageModel(checkpoint, AutoModelForImageClassification)
        self.model, self.processor = self.images.model, self.images.processor

    def encode(
        self, inputs: list[ImageClassificationInput], params: ImageClassificationParams
    ) -> list[Encoded]:
        return self.images.encode(inputs)

    def run(
        self, inputs: list[PreprocessedImage], params: ImageClassificationParams
    ) -> list[ImageClassificationOutput]:
        def post_process(outputs: Any, _: list[Size]) -> list[list[Label]]:
            return top_labels(outputs.logits, self.model.config, params.function_to_apply, params.top_k)

        return [ImageClassificationOutput(labels=row) for row in self.images.run(inputs, post_process)]
