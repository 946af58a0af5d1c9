"""Image segmentation: an image in, its regions out, each with a mask."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput
from deployments.media import EXAMPLE_IMAGE
from deployments.pipelines.images import ImageModel, PreprocessedImage, Size
from deployments.pipelines.segmentation import post_process_segmentation, select_example
from deployments.schema import Image, Schema, Segment, Unit
from deployments.task import Encoded, Module, task

if TYPE_CHECKING:
    import torch

Subtask = Literal["panoptic", "instance", "semantic"]
SUBTASKS: tuple[Subtask, ...] = ("panoptic", "instance", "semantic")


class ImageSegmentationInput(Schema):
    image: Image = Field(description="The image to segment.", examples=[EXAMPLE_IMAGE])


class ImageSegmentationParams(Schema):
    threshold: Unit = Field(0.9, description="The minimum score of a segment; not for semantic segmentation.")
    mask_threshold: Unit = Field(0.5, description="The minimum probability of a pixel in a mask.")
    overlap_mask_area_threshold: Unit = Field(
        0.5,
        description="The fraction of a mask that must remain after overlaps with better masks.",
    )
    subtask: Subtask | None = Field(
        None,
        description="The kind of segmentation; by default the first, in this order, that the model supports.",
    )


class ImageSegmentationOutput(Schema):
    segments: list[Segment] = Field(description="The regions of the image.")


@task("image-segmentation", dialect_params={"caikit": {"threshold": 0.5}})
class ImageSegmentation(Module):
    """Segment an image into its regions."""

    module_id = "D44941F7-6967-45ED-823B-C1070C9257F9"
    default_model = "facebook/detr-resnet-50-panoptic"
    default_revision = "fc15262"
    network_kinds = (
        "IMAGE_SEGMENTATION",
        "SEMANTIC_SEGMENTATION",
        "INSTANCE_SEGMENTATION",
        "UNIVERSAL_SEGMENTATION",
    )
    unit = "pixels"

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoConfig

        self.images = ImageModel(checkpoint, _auto_class(checkpoint.from_pretrained(AutoConfig)))
        self.model, self.processor = self.images.model, self.images.processor
        self.subtasks = [
            subtask for subtask in SUBTASKS if hasattr(self.processor, _post_process_name(subtask))
        ]

    def encode(self, inputs: list[ImageSegmentationInput], params: ImageSegmentationParams) -> list[Encoded]:
        if params.subtask and params.subtask not in self.subtasks:
            raise InvalidInput(
                f"this model does not support {params.subtask!r} segmentation, only {self.subtasks}"
            )
        return self.images.encode(inputs)

    def run(
        self, inputs: list[PreprocessedImage], params: ImageSegmentationParams
    ) -> list[ImageSegmentationOutput]:
        subtask = params.subtask or self.subtasks[0]
        thresholds = {} if subtask == "semantic" else params.model_dump(exclude={"subtask"})
        processor = getattr(self.processor, _post_process_name(subtask))

        def post_process(outputs: Any, sizes: list[Size]) -> list[ImageSegmentationOutput]:
            return [
                self._segments(
                    post_process_segmentation(processor, select_example(outputs, index), size, **thresholds),
                    size,
                )
                for index, size in enumerate(sizes)
            ]

        return self.images.run(inputs, post_process)

    def _segments(self, result: Any, size: Size) -> ImageSegmentationOutput:
        # A generator holds one mask at a time: each is as large as the image.
        parts: Iterable[tuple[int, float | None, torch.Tensor]]
        if not isinstance(result, dict):  # a semantic map: the class of each pixel
            classes = result.flatten().bincount().nonzero().flatten().tolist()
            parts = ((label, None, result == label) for label in classes)
        else:
            segment_map = result["segmentation"]
            parts = (
                (part["label_id"], part["score"], segment_map == part["id"])
                for part in result["segments_info"]
            )
        names = self.model.config.id2label
        return ImageSegmentationOutput(
            segments=[
                Segment(label=names[label], score=score, mask=_png(mask, size))
                for label, score, mask in parts
            ]
        )


def _post_process_name(subtask: Subtask) -> str:
    return f"post_process_{subtask}_segmentation"


def _auto_class(config: Any) -> Any:
    """Return the auto class that knows this architecture: transformers has four for segmentation."""
    import transformers

    names = " ".join(config.architectures or ())
    kinds = (kind for kind in ("Semantic", "Instance", "Universal") if f"For{kind}Segmentation" in names)
    return getattr(transformers, f"AutoModelFor{next(kinds, 'Image')}Segmentation")


def _png(mask: "torch.Tensor", size: Size) -> bytes:
    """Draw the mask in the image's size, which may differ from the network's."""
    from PIL import Image as Pictures

    png, (height, width) = io.BytesIO(), size
    drawn = Pictures.fromarray(mask.byte().mul(255).cpu().numpy())
    drawn.resize((width, height), Pictures.Resampling.NEAREST).save(png, "PNG")
    return png.getvalue()
