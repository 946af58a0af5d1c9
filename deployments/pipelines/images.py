"""Images through a network: those of one size together, never padded, so that a batch changes no answer."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput
from deployments.media import decode_image
from deployments.task import Encoded

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
T = TypeVar("T")


class Picture(NamedTuple):
    """An image as the network reads it, and its own (height, width) in pixels."""

    prepared: Any
    size: Size


class HasImage(Protocol):
    """An input of an image task."""

    @property
    def image(self) -> bytes: ...


class ImageModel:
    """A loaded image network and its image processor: what all image tasks have in common."""

    def __init__(self, checkpoint: Checkpoint, auto_class: Any) -> None:
        from transformers import AutoImageProcessor

        self.processor = checkpoint.read(AutoImageProcessor, backend="pil")
        self.model = checkpoint.network(auto_class)

    def encode(self, inputs: Iterable[HasImage]) -> list[Encoded]:
        """Decode and resize the images: a `Picture` each, with its cost in pixels."""
        return [self._encode(decode_image(item.image)) for item in inputs]

    def run(self, pictures: list[Picture], read: Callable[[Any, list[Size]], Iterable[T]]) -> list[T]:
        """Run the network, and return what `read` makes of its outputs: one value for each picture, in order.

        `read` is called once for each group of equal size, with the outputs and each image's own size.
        """
        import torch

        groups = defaultdict(list)
        for index, picture in enumerate(pictures):
            groups[picture.prepared["pixel_values"].shape].append(index)
        values: dict[int, T] = {}
        for indices in groups.values():
            group = [pictures[index] for index in indices]
            batch = type(group[0].prepared)(
                {name: torch.cat([picture.prepared[name] for picture in group]) for name in group[0].prepared}
            )
            with torch.inference_mode():
                outputs = self.model(**batch.to(self.model.device, self.model.dtype))
                values.update(zip(indices, read(outputs, [picture.size for picture in group]), strict=True))
        return [values[index] for index in range(len(pictures))]

    def _encode(self, image: "Image.Image") -> Encoded:
        try:
            prepared = self.processor(images=[image], return_tensors="pt")
        except ValueError as unfit:
            size = f"{image.width} x {image.height}"
            raise InvalidInput(f"a picture of {size} pixels cannot be resized for this model") from unfit
        height, width = prepared["pixel_values"].shape[-2:]
        return Encoded(Picture(prepared, (image.height, image.width)), height * width)
