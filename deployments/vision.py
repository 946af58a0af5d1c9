"""Pictures through a network: those of one size together, never padded, so that company changes nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from deployments.errors import InvalidInput
from deployments.media import open_picture

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
T = TypeVar("T")


def look(
    model: Any, processor: Any, encoded: Iterable[bytes], tell: Callable[[Any, list[Size]], list[T]]
) -> list[T]:
    """Show pictures to `model` and return what `tell` makes of its outputs, one value per picture, in order.

    `tell` is called once per group of equal size, with the network's outputs and each picture's own
    (height, width) in pixels.
    """
    import torch

    pictures = [open_picture(data) for data in encoded]
    told: dict[int, T] = {}
    for places, batch in _groups(processor, pictures):
        sizes = [(pictures[place].height, pictures[place].width) for place in places]
        with torch.inference_mode():
            told.update(zip(places, tell(model(**batch.to(model.device, model.dtype)), sizes), strict=True))
    return [told[place] for place in range(len(pictures))]


def _groups(processor: Any, pictures: list["Image.Image"]) -> Iterable[tuple[list[int], Any]]:
    import torch

    alike = defaultdict(list)
    for place, picture in enumerate(pictures):
        prepared = _prepare(processor, picture)
        alike[prepared["pixel_values"].shape].append((place, prepared))
    for group in alike.values():
        places, prepared_ones = zip(*group, strict=True)
        batch = prepared_ones[0]
        for name in batch:
            batch[name] = torch.cat([one[name] for one in prepared_ones])
        yield list(places), batch


def _prepare(processor: Any, picture: "Image.Image") -> Any:
    try:
        return processor(images=[picture], return_tensors="pt")
    except ValueError as unfit:
        size = f"{picture.width} x {picture.height}"
        raise InvalidInput(f"a picture of {size} pixels cannot be resized for this model") from unfit
