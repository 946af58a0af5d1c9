"""Image classification: a picture in, what it shows out."""

from typing import Any

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, Picture, Size
from deployments.pipelines.labels import Function, labels
from deployments.schema import Image, Label, Schema
from deployments.task import Encoded, Module, task


class ImageClassificationInput(Schema):
    image: Image = Field(description="The picture to classify.", examples=[EXAMPLE_IMAGE])


class ImageClassificationParams(Schema):
    top_k: int = Field(5, ge=1, description="How many labels to return.")
    function_to_apply: Function | None = Field(
        None,
        description="What turns the network's outputs into scores; the checkpoint's own choice if not given.",
    )


class ImageClassificationOutput(Schema):
    labels: list[Label] = Field(description="What the picture shows, best first.")


@task("image-classification")
class ImageClassification(Module):
    """Tell what a picture shows."""

    module_id = "D7B3B724-147B-41C1-A41E-A38F9D00F905"
    default_model = "google/vit-base-patch16-224"
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
        self, inputs: list[Picture], params: ImageClassificationParams
    ) -> list[ImageClassificationOutput]:
        def read(outputs: Any, _: list[Size]) -> list[list[Label]]:
            return labels(outputs.logits, self.model.config, params.function_to_apply, params.top_k)

        return [ImageClassificationOutput(labels=row) for row in self.images.run(inputs, read)]
