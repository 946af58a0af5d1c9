"""Pictures through a network: those of one size together, never padded, so that company changes nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from deployments.errors import InvalidInput
from deployments.media import decode_image
from deployments.task import Encoded

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
T = TypeVar("T")


class Picture(NamedTuple):
    """A picture as the network reads it, and its own (height, width) in pixels."""

    prepared: Any
    size: Size


def prepare(processor: Any, pictures: Iterable[bytes]) -> list[Encoded]:
    """Encoded pictures, decoded and resized: a `Picture` each, with its cost in pixels."""
    return [_prepare(processor, decode_image(picture)) for picture in pictures]


def look(model: Any, pictures: list[Picture], tell: Callable[[Any, list[Size]], list[T]]) -> list[T]:
    """Show pictures to `model` and return what `tell` makes of its outputs, one value per picture, in order.

    `tell` is called once per group of equal size, with the network's outputs and each picture's own size.
    """
    import torch

    alike = defaultdict(list)
    for place, picture in enumerate(pictures):
        alike[picture.prepared["pixel_values"].shape].append(place)
    told: dict[int, T] = {}
    for places in alike.values():
        group = [pictures[place] for place in places]
        batch = type(group[0].prepared)(
            {name: torch.cat([one.prepared[name] for one in group]) for name in group[0].prepared}
        )
        with torch.inference_mode():
            outputs = model(**batch.to(model.device, model.dtype))
            told.update(zip(places, tell(outputs, [one.size for one in group]), strict=True))
    return [told[place] for place in range(len(pictures))]


def _prepare(processor: Any, picture: "Image.Image") -> Encoded:
    try:
        prepared = processor(images=[picture], return_tensors="pt")
    except ValueError as unfit:
        size = f"{picture.width} x {picture.height}"
        raise InvalidInput(f"a picture of {size} pixels cannot be resized for this model") from unfit
    height, width = prepared["pixel_values"].shape[-2:]
    return Encoded(Picture(prepared, (picture.height, picture.width)), height * width)
