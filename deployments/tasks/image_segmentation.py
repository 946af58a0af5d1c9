"""Image segmentation: a picture in, its regions out, each as a mask."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, Picture, Size
from deployments.pipelines.segmentation import draw, only
from deployments.schema import Image, Schema, Segment, Unit
from deployments.task import Encoded, Module, task

if TYPE_CHECKING:
    import torch

Subtask = Literal["panoptic", "instance", "semantic"]
SUBTASKS: tuple[Subtask, ...] = ("panoptic", "instance", "semantic")


class ImageSegmentationInput(Schema):
    image: Image = Field(description="The picture to divide.", examples=[EXAMPLE_IMAGE])


class ImageSegmentationParams(Schema):
    threshold: Unit = Field(
        0.9, description="Only segments with a better score than this; not for semantic models."
    )
    mask_threshold: Unit = Field(0.5, description="How sure a pixel must be to belong to a mask.")
    overlap_mask_area_threshold: Unit = Field(
        0.5,
        description="The share of a mask that must remain, once others have taken their pixels, to count.",
    )
    subtask: Subtask | None = Field(
        None, description="Which kind of segments; the first that the model can, in this order, if not given."
    )


class ImageSegmentationOutput(Schema):
    segments: list[Segment] = Field(description="The regions of the picture.")


@task("image-segmentation", dialect_params={"caikit": {"threshold": 0.5}})
class ImageSegmentation(Module):
    """Divide a picture into its regions."""

    module_id = "D44941F7-6967-45ED-823B-C1070C9257F9"
    default_model = "facebook/detr-resnet-50-panoptic"
    default_revision = "fc15262"
    unit = "pixels"

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoConfig

        self.images = ImageModel(checkpoint, _auto_class(checkpoint.read(AutoConfig)))
        self.model, self.processor = self.images.model, self.images.processor
        self.subtasks = [kind for kind in SUBTASKS if hasattr(self.processor, _reader(kind))]

    def encode(self, inputs: list[ImageSegmentationInput], params: ImageSegmentationParams) -> list[Encoded]:
        if params.subtask and params.subtask not in self.subtasks:
            raise InvalidInput(f"this model cannot do {params.subtask!r} segmentation, only {self.subtasks}")
        return self.images.encode(inputs)

    def run(self, inputs: list[Picture], params: ImageSegmentationParams) -> list[ImageSegmentationOutput]:
        subtask = params.subtask or self.subtasks[0]
        thresholds = {} if subtask == "semantic" else params.model_dump(exclude={"subtask"})
        post_process = getattr(self.processor, _reader(subtask))

        def read(outputs: Any, sizes: list[Size]) -> list[ImageSegmentationOutput]:
            return [
                self._segments(draw(post_process, only(outputs, place), size, **thresholds), size)
                for place, size in enumerate(sizes)
            ]

        return self.images.run(inputs, read)

    def _segments(self, found: Any, size: Size) -> ImageSegmentationOutput:
        # One mask at a time: each is as large as the picture.
        parts: Iterable[tuple[int, float | None, torch.Tensor]]
        if not isinstance(found, dict):  # a semantic map: each pixel's class
            classes = found.flatten().bincount().nonzero().flatten().tolist()
            parts = ((label, None, found == label) for label in classes)
        else:
            drawn = found["segmentation"]
            parts = (
                (part["label_id"], part["score"], drawn == part["id"]) for part in found["segments_info"]
            )
        names = self.model.config.id2label
        return ImageSegmentationOutput(
            segments=[
                Segment(label=names[label], score=score, mask=_png(mask, size))
                for label, score, mask in parts
            ]
        )


def _reader(subtask: Subtask) -> str:
    return f"post_process_{subtask}_segmentation"


def _auto_class(config: Any) -> Any:
    """Return the auto class that knows this architecture: transformers has four for segmentation."""
    import transformers

    names = " ".join(config.architectures or ())
    kinds = (kind for kind in ("Semantic", "Instance", "Universal") if f"For{kind}Segmentation" in names)
    return getattr(transformers, f"AutoModelFor{next(kinds, 'Image')}Segmentation")


def _png(mask: "torch.Tensor", size: Size) -> bytes:
    """Draw the mask in the picture's size, which the network's may differ from."""
    from PIL import Image as Pictures

    png, (height, width) = io.BytesIO(), size
    drawn = Pictures.fromarray(mask.byte().mul(255).cpu().numpy())
    drawn.resize((width, height), Pictures.Resampling.NEAREST).save(png, "PNG")
    return png.getvalue()
