"""Image networks: images of one size share a batch without padding, so that a batch changes no output."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.load_failures import first_line
from deployments.errors import InvalidInput, ModelNotReady
from deployments.media import decode_image
from deployments.task import Encoded

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
Mode = Literal["L", "RGB"]
MODES: dict[int, Mode] = {1: "L", 3: "RGB"}
"""PIL's mode of the images that a network reads, by their number of channels."""
PROBE_SIZE = 64, 64
T = TypeVar("T")


class PreprocessedImage(NamedTuple):
    """The network's input for an image, and the image's own (height, width) in pixels."""

    features: Any
    size: Size


class HasImage(Protocol):
    """An input of an image task."""

    @property
    def image(self) -> bytes: ...


class ImageModel:
    """A loaded image network and its image processor, shared by all image tasks."""

    def __init__(self, checkpoint: Checkpoint, auto_class: Any) -> None:
        from transformers import AutoImageProcessor

        self.processor = checkpoint.from_pretrained(AutoImageProcessor, backend="pil")
        self.model = checkpoint.network(auto_class)
        self.mode = _image_mode(checkpoint.name, self.model.config, self.processor)

    def encode(self, inputs: Iterable[HasImage]) -> list[Encoded]:
        """Decode and resize the images: a `PreprocessedImage` each, with its cost in pixels."""
        return [self._encode(decode_image(item.image, self.mode)) for item in inputs]

    def run(
        self, images: list[PreprocessedImage], post_process: Callable[[Any, list[Size]], Iterable[T]]
    ) -> list[T]:
        """Run the network and post-process its outputs: one result per image, in order.

        `post_process` is called once per group of equal size, with the outputs and each image's own size.
        """
        import torch

        groups = defaultdict(list)
        for index, image in enumerate(images):
            groups[image.features["pixel_values"].shape].append(index)
        results: dict[int, T] = {}
        for indices in groups.values():
            group = [images[index] for index in indices]
            batch = type(group[0].features)(
                {name: torch.cat([image.features[name] for image in group]) for name in group[0].features}
            )
            with torch.inference_mode():
                outputs = self.model(**batch.to(self.model.device, self.model.dtype))
                results.update(
                    zip(indices, post_process(outputs, [image.size for image in group]), strict=True)
                )
        return [results[index] for index in range(len(images))]

    def _encode(self, image: "Image.Image") -> Encoded:
        try:
            features = self.processor(images=[image], return_tensors="pt")
        except ValueError as error:
            size = f"{image.width} x {image.height}"
            raise InvalidInput(f"an image of {size} pixels cannot be resized for this model") from error
        height, width = features["pixel_values"].shape[-2:]
        return Encoded(PreprocessedImage(features, (image.height, image.width)), height * width)


def input_channels(config: Any) -> int:
    """Return the number of channels of the images that a network reads; 3 if its config has no number."""
    parts = (getattr(config, name, None) for name in ("backbone_config", "vision_config"))
    numbers = (getattr(part, "num_channels", None) for part in (*parts, config))
    return next((number for number in numbers if isinstance(number, int)), 3)


def _image_mode(name: str, config: Any, processor: Any) -> Mode:
    """Return the mode of a network's images. Raises `ModelNotReady` if its image processor makes others."""
    from PIL import Image

    channels = input_channels(config)
    reads = f"{name!r} reads images of {channels} channel{'s' * (channels != 1)}"
    if channels not in MODES:
        raise ModelNotReady(f"{reads}; Roster has only images of 1 (grey) and 3 (RGB) channels")
    try:
        features = processor(images=[Image.new(MODES[channels], PROBE_SIZE)], return_tensors="pt")
    except Exception as error:
        problem = f"its image processor cannot prepare such an image: {first_line(error)}"
        raise ModelNotReady(f"{reads}; {problem}") from error
    shape: tuple[int, ...] = getattr(features.get("pixel_values"), "shape", ())
    if len(shape) == 4 and shape[1] != channels:
        raise ModelNotReady(f"{reads}; its image processor makes images of {shape[1]} channels from them")
    return MODES[channels]
