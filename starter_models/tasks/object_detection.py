"""Train a DETR that detects circles, squares and triangles.

A DETR this small does not learn from the usual recipe within minutes. Three changes make it learn: there are
as many queries as the feature map has cells, and each starts out at one cell (its embedding is the cell's
position encoding, and cross-attention compares like with like); training adds a dense head on the feature
map; and the batch norms, which DETR freezes, are trained.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import DetrForObjectDetection, DetrImageProcessorPil, pipeline
from transformers.image_transforms import corners_to_center_format
from transformers.loss.loss_for_object_detection import box_iou
from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score
from starter_models.images import PROCESSING, augment_colors, image_tensor, plain_drawings
from starter_models.settings import create_model, load_training
from starter_models.shapes import SHAPES, Scene, Style, draw_scenes, grid_cell
from starter_models.trainer import fit

GRID = 5  # the feature map has 5x5 cells of 16 pixels; odd, so that the center of an image is inside a cell
SIDE = GRID * 16
QUERIES = GRID * GRID
WIDTH = 64
NO_OBJECT = len(SHAPES)
TRAINING = load_training("object_detection")
STYLE = Style(max_shapes=4, max_rotation=0.3, grid=GRID)
CLASS_WEIGHTS = torch.tensor([1.0, 1.0, 1.0, 0.25])  # most cells contain no object
THRESHOLD = 0.5

Box = NDArray[np.float64]  # in pixels


def train() -> Checkpoint:
    """Train the DETR and, for training only, a dense head on its feature map."""
    rng = random.Random(TRAINING.seed)
    scenes = draw_scenes(TRAINING.examples, STYLE, TRAINING.seed)
    images, targets = image_tensor(scenes, SIDE), assign_targets(scenes)
    trained = TrainedDetr(create_detr())

    def next_loss() -> torch.Tensor:
        batch = torch.randint(0, len(images), (TRAINING.batch_size,))
        pixels, wanted = augment_colors(images[batch], rng), targets[batch]
        if rng.random() < 0.5:
            pixels, wanted = pixels.flip(3).contiguous(), flip(wanted)
        return trained.loss(pixels, wanted)

    fit(trained, next_loss, TRAINING)
    processor = DetrImageProcessorPil(**{**PROCESSING, "size": {"height": SIDE, "width": SIDE}}, do_pad=False)
    return Checkpoint(trained.finish(), processor)


def assign_targets(scenes: Sequence[Scene]) -> torch.Tensor:
    """Assign every shape to the query of the cell that contains its center.

    The result has the shape (images, queries, 5): the index of the class, and the box as center and size.
    """
    targets = torch.zeros(len(scenes), QUERIES, 5)
    targets[..., 0] = NO_OBJECT
    for index, scene in enumerate(scenes):
        for shape in scene.shapes:
            target = targets[index, grid_cell(shape.box, GRID)]
            target[0] = SHAPES.index(shape.label)
            target[1:] = corners_to_center_format(torch.tensor(shape.box, dtype=torch.float64))
    return targets


def flip(targets: torch.Tensor) -> torch.Tensor:
    """Compute the targets of horizontally flipped images."""
    flipped = targets.view(-1, GRID, GRID, 5).flip(2).reshape(-1, QUERIES, 5)
    flipped[..., 1] = 1 - flipped[..., 1]
    return flipped


def create_detr() -> DetrForObjectDetection:
    """Create an untrained DETR with trainable batch norms and one query per cell."""
    model: DetrForObjectDetection = create_model("object_detection", labels=SHAPES).requires_grad_(True)
    replace_modules(model, DetrFrozenBatchNorm2d, lambda old: nn.BatchNorm2d(len(old.weight), momentum=0.05))
    # Each query starts with its cell's position encoding, and cross-attention by comparing encodings.
    everywhere = torch.ones(1, GRID, GRID, dtype=torch.bool)
    shape = torch.Size([1, WIDTH, GRID, GRID])
    encoding = model.model.position_embedding(shape=shape, device="cpu", dtype=torch.float32, mask=everywhere)
    with torch.no_grad():
        model.model.query_position_embeddings.weight.copy_(encoding.flatten(2).transpose(1, 2)[0])
        for layer in model.model.decoder.layers:
            nn.init.orthogonal_(layer.encoder_attn.q_proj.weight, gain=2.0)
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)
    return model


def replace_modules(module: nn.Module, old: type[nn.Module], create: Callable[[Any], nn.Module]) -> None:
    """Replace every submodule of a class."""
    for name, child in module.named_children():
        if isinstance(child, old):
            setattr(module, name, create(child))
        else:
            replace_modules(child, old, create)


def frozen_batch_norm(trained: nn.BatchNorm2d) -> nn.Module:
    """Copy a trained batch norm into a frozen one."""
    frozen: nn.Module = DetrFrozenBatchNorm2d(trained.num_features)
    frozen.load_state_dict({key: trained.state_dict()[key] for key in frozen.state_dict()})
    return frozen


class TrainedDetr(nn.Module):
    """A DETR in training, with a dense head that predicts the same targets from the feature map."""

    def __init__(self, model: DetrForObjectDetection) -> None:
        super().__init__()
        self.model = model
        self.dense_head = nn.Linear(WIDTH, NO_OBJECT + 1 + 4)
        self._features = torch.empty(0)
        self._hook = model.model.input_projection.register_forward_hook(self._keep_features)

    def _keep_features(self, _module: nn.Module, _inputs: Any, features: torch.Tensor) -> None:
        self._features = features.flatten(2).transpose(1, 2)

    def loss(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the loss of the queries and of the dense head."""
        outputs = self.model(pixel_values=pixels, pixel_mask=torch.ones(len(pixels), SIDE, SIDE))
        logits, boxes = self.dense_head(self._features).split([NO_OBJECT + 1, 4], dim=-1)
        loss = detection_loss(outputs.logits, outputs.pred_boxes, targets)
        return loss + detection_loss(logits, boxes.sigmoid(), targets)

    def finish(self) -> DetrForObjectDetection:
        """Return the plain DETR, without the dense head."""
        self._hook.remove()
        replace_modules(self.model, nn.BatchNorm2d, frozen_batch_norm)
        return self.model


def detection_loss(logits: torch.Tensor, boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute DETR's loss without its matching, because every query has its cell."""
    classes, has_object = targets[..., 0].long(), targets[..., 0] != NO_OBJECT
    class_loss = functional.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight=CLASS_WEIGHTS)
    predicted, true = boxes[has_object], targets[has_object][:, 1:]
    loss: torch.Tensor = class_loss + 10 * functional.l1_loss(predicted, true)
    return loss + 2 * (1 - generalized_iou(predicted, true).mean())


def generalized_iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Compute the generalized IoU of each pair of boxes, given as center and size."""
    (low, high), (low2, high2) = ((b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2) for b in (one, other))
    intersection = (torch.min(high, high2) - torch.max(low, low2)).clamp(min=0).prod(-1)
    enclosing = (torch.max(high, high2) - torch.min(low, low2)).prod(-1)
    union = (high - low).prod(-1) + (high2 - low2).prod(-1) - intersection
    return intersection / union - (enclosing - union) / enclosing


def evaluate(folder: Path) -> list[Score]:
    """Compute precision and recall on new images and on plain drawings."""
    detector = pipeline("object-detection", model=str(folder), device="cpu")
    scenes = draw_scenes(300, STYLE, TRAINING.evaluation_seed)
    new = [
        (scene.image, [(item.label, np.multiply(item.box, scene.image.size * 2)) for item in scene.shapes])
        for scene in scenes
    ]
    plain = [(image, [(shape, np.array(box))]) for image, shape, box in plain_drawings()]
    sets = {"new generated images": new, "plain drawings": plain}
    return [score for name, examples in sets.items() for score in detection_scores(name, detector, examples)]


def detection_scores(name: str, detector: Any, examples: Sequence[Any]) -> list[Score]:
    """Compute F1, precision and recall over images with their labels and boxes."""
    correct = found = expected = 0
    for image, shapes in examples:
        outputs = sorted(detector(image, threshold=THRESHOLD), key=lambda output: -float(output["score"]))
        boxes = [np.array([*output["box"].values()], dtype=float) for output in outputs]
        correct += count_matches([output["label"] for output in outputs], boxes, shapes)
        found, expected = found + len(outputs), expected + len(shapes)
    return [
        Score(f"F1 at IoU 0.5, {name}", 2 * correct / max(1, found + expected), len(examples)),
        Score(f"precision, {name}", correct / max(1, found), len(examples)),
        Score(f"recall, {name}", correct / max(1, expected), len(examples)),
    ]


def count_matches(labels: Sequence[str], boxes: Sequence[Box], shapes: Sequence[tuple[str, Box]]) -> int:
    """Match the detections of one image, by descending score, with its shapes at an IoU of at least 0.5."""
    left = list(shapes)
    for label, box in zip(labels, boxes, strict=True):
        for index, (true_label, true_box) in enumerate(left):
            overlap, _ = box_iou(torch.tensor(true_box[None]), torch.tensor(box[None]))
            if label == true_label and overlap >= 0.5:
                del left[index]
                break
    return len(shapes) - len(left)
