"""From a network's outputs to a picture's segments, in memory that does not grow with pixels times masks.

transformers enlarges all classes' scores, or all masks, to the picture's size at once, which takes gigabytes
for a photograph and 150 classes.
"""

from collections.abc import Callable
from inspect import signature
from math import sqrt
from typing import TYPE_CHECKING, Any

from deployments.pipelines.images import Size

if TYPE_CHECKING:
    import torch

MOST_SCORES = 2**24  # classes times pixels of a strip
MOST_DRAWN = 2**28  # masks times pixels: a GiB in float32


def only(outputs: Any, place: int) -> Any:
    """The outputs of the picture at this place, as a batch of one."""
    import torch

    batch = {name: part for name, part in outputs.items() if isinstance(part, torch.Tensor)}
    return type(outputs)(**{name: part[place : place + 1] for name, part in batch.items()})


def draw(read: Callable[..., list[Any]], outputs: Any, size: Size, **thresholds: Any) -> Any:
    """What `read`, an image processor's `post_process_...`, makes of one picture's outputs.

    A map of classes has the picture's size, whatever that is. Masks, of which it takes all to know one's
    share, are drawn smaller where they would be more than `MOST_DRAWN`.
    """
    knows = signature(read).parameters
    if "return_segmentation_scores" in knows and knows["target_sizes"].default is None:
        [found] = read(outputs, return_segmentation_scores=True)
        return class_map(found.segmentation_scores.float(), size)
    masks = outputs.get("pred_masks", outputs.get("masks_queries_logits"))
    [found] = read(outputs, target_sizes=[fitting(size, masks.shape[1])], **thresholds)
    return found


def class_map(scores: "torch.Tensor", size: Size) -> "torch.Tensor":
    """Each pixel's best class, of scores (classes, height, width) enlarged to `size` bilinearly."""
    import torch

    height, width = size
    if width > height:  # strips lie across the longer side, so that none is too large
        return class_map(scores.mT, (width, height)).T
    row = len(scores) * max(width, scores.shape[2])
    strips = torch.split(_places(scores, height), max(MOST_SCORES // row, 1))
    return torch.cat([_strip(scores, places, width).argmax(0).int().cpu() for places in strips])


def _places(scores: "torch.Tensor", height: int) -> "torch.Tensor":
    """Where each row of a picture of that height lies among the scores' rows, by its middle."""
    import torch

    rows = scores.shape[1]
    places = (torch.arange(height, device=scores.device) + 0.5) * (rows / height) - 0.5
    return places.clamp(0, rows - 1)


def _strip(scores: "torch.Tensor", places: "torch.Tensor", width: int) -> "torch.Tensor":
    """The scores' rows at these places, enlarged to that width."""
    import torch
    from torch.nn.functional import interpolate

    above = places.long()
    below = (above + 1).clamp(max=scores.shape[1] - 1)
    rows = torch.lerp(scores[:, above], scores[:, below], (places - above)[:, None])
    return interpolate(rows[None], size=(len(places), width), mode="bilinear")[0]


def fitting(size: Size, masks: int) -> Size:
    """The size itself, or one of about the same shape of which so many masks are not too much."""
    most = MOST_DRAWN // masks
    share = min(sqrt(most / (size[0] * size[1])), 1)
    short = max(int(min(size) * share), 1)
    long = min(max(int(max(size) * share), 1), max(most // short, 1))
    return (short, long) if size[0] < size[1] else (long, short)
