"""Post-processing of segmentation outputs in memory that does not grow with pixels times masks.

transformers enlarges the scores of all classes, or all masks, to the image's size at once, which takes
gigabytes for a photograph and 150 classes.
"""

from collections.abc import Callable
from inspect import signature
from math import sqrt
from typing import TYPE_CHECKING, Any

from deployments.pipelines.images import Size

if TYPE_CHECKING:
    import torch

MAX_STRIP_SCORES = 2**24  # classes times pixels of a strip
MAX_MASK_PIXELS = 2**28  # masks times pixels: 1 GiB in float32


def select_example(outputs: Any, index: int) -> Any:
    """Return the outputs of the image at `index`, as a batch of one."""
    import torch

    batch = {name: part for name, part in outputs.items() if isinstance(part, torch.Tensor)}
    return type(outputs)(**{name: part[index : index + 1] for name, part in batch.items()})


def post_process_segmentation(
    post_process: Callable[..., list[Any]], outputs: Any, size: Size, **thresholds: Any
) -> Any:
    """Apply an image processor's `post_process_..._segmentation` to the outputs of one image.

    A semantic map always has the image's size. Masks compete for pixels, so all of them are needed at once;
    they are computed smaller if they would exceed `MAX_MASK_PIXELS`.
    """
    parameters = signature(post_process).parameters
    if "return_segmentation_scores" in parameters and parameters["target_sizes"].default is None:
        [semantic] = post_process(outputs, return_segmentation_scores=True)
        return class_map(semantic.segmentation_scores.float(), size)
    masks = outputs.get("pred_masks", outputs.get("masks_queries_logits"))
    [segments] = post_process(outputs, target_sizes=[max_mask_size(size, masks.shape[1])], **thresholds)
    return segments


def class_map(scores: "torch.Tensor", size: Size) -> "torch.Tensor":
    """Return each pixel's best class, from scores (classes, height, width) enlarged bilinearly to `size`."""
    import torch

    height, width = size
    if width > height:  # strips cross the longer side, so that no strip is too large
        return class_map(scores.mT, (width, height)).T
    row = len(scores) * max(width, scores.shape[2])
    strips = torch.split(_row_positions(scores, height), max(MAX_STRIP_SCORES // row, 1))
    return torch.cat([_enlarge_rows(scores, positions, width).argmax(0).int().cpu() for positions in strips])


def _row_positions(scores: "torch.Tensor", height: int) -> "torch.Tensor":
    """Return the position of each image row among the rows of the scores, by its centre."""
    import torch

    rows = scores.shape[1]
    positions = (torch.arange(height, device=scores.device) + 0.5) * (rows / height) - 0.5
    return positions.clamp(0, rows - 1)


def _enlarge_rows(scores: "torch.Tensor", positions: "torch.Tensor", width: int) -> "torch.Tensor":
    """Interpolate the rows of the scores at these positions, enlarged to `width`."""
    import torch
    from torch.nn.functional import interpolate

    above = positions.long()
    below = (above + 1).clamp(max=scores.shape[1] - 1)
    rows = torch.lerp(scores[:, above], scores[:, below], (positions - above)[:, None])
    return interpolate(rows[None], size=(len(positions), width), mode="bilinear")[0]


def max_mask_size(size: Size, masks: int) -> Size:
    """Return `size`, or a smaller size of about the same shape if so many masks would exceed the limit."""
    max_pixels = MAX_MASK_PIXELS // masks
    share = min(sqrt(max_pixels / (size[0] * size[1])), 1)
    short = max(int(min(size) * share), 1)
    long = min(max(int(max(size) * share), 1), max(max_pixels // short, 1))
    return (short, long) if size[0] < size[1] else (long, short)
