"""A DETR that finds circles, squares and triangles in a picture.

A DETR this small learns nothing from the usual recipe. What makes it learn within minutes: as many
queries as the feature map has cells, each answering for one cell from the start (its embedding is that
cell's position code and cross-attention compares like with like); a second, dense head on the feature map
while training; and batch norms that learn, which DETR otherwise freezes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    ResNetConfig,
    pipeline,
)
from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

from starter_models.pictures import PROCESSING, pixels, plain_drawings, recolored
from starter_models.shapes import SHAPES, Box, Scene, Style, draw_scenes, grid_cell
from starter_models.training import Card, Checkpoint, Schedule, Score, Starter, fit

GRID = 5  # the feature map is 5x5 cells of 16 pixels; an odd number, so that the middle is inside of a cell
SIDE = GRID * 16
QUERIES = GRID * GRID
WIDTH = 64
NOTHING = len(SHAPES)
STYLE = Style(most_shapes=4, turn=0.3, grid=GRID)
SCHEDULE = Schedule(steps=2600, rate=4e-3, decay=1e-4)
TRAINING_SEED, HELD_OUT_SEED = 0, 31337
BATCH = 32
CLASS_WEIGHTS = torch.tensor([1.0, 1.0, 1.0, 0.25])  # most cells hold nothing
SURE = 0.5


@dataclass(frozen=True)
class Targets:
    """What each query should answer: a class (or NOTHING) and a box as centre and size."""

    classes: torch.Tensor
    boxes: torch.Tensor

    def of(self, chosen: torch.Tensor) -> Targets:
        """The targets of some of the pictures."""
        return Targets(self.classes[chosen], self.boxes[chosen])

    def mirrored(self) -> Targets:
        """The targets of the pictures seen in a mirror."""
        classes = self.classes.view(-1, GRID, GRID).flip(2).reshape(-1, QUERIES)
        boxes = self.boxes.view(-1, GRID, GRID, 4).flip(2).reshape(-1, QUERIES, 4)
        boxes[..., 0] = 1 - boxes[..., 0]
        return Targets(classes, boxes)


def train() -> Checkpoint:
    """Trains the queries and, for training only, a dense head on the feature map that feeds them."""
    rng = random.Random(TRAINING_SEED)
    scenes = draw_scenes(10_000, STYLE, TRAINING_SEED)
    pictures, targets = pixels(scenes, SIDE), targets_of(scenes)
    learner = Learner(prepared_model())

    def next_loss() -> torch.Tensor:
        chosen = torch.randint(0, len(pictures), (BATCH,))
        seen, wanted = recolored(pictures[chosen], rng), targets.of(chosen)
        if rng.random() < 0.5:
            seen, wanted = seen.flip(3).contiguous(), wanted.mirrored()
        return learner.loss(seen, wanted)

    fit(learner, next_loss, SCHEDULE)
    return Checkpoint(learner.finished(), processor())


def processor() -> DetrImageProcessorPil:
    """Scales pictures of any size to the one that the queries are laid out for."""
    return DetrImageProcessorPil(**{**PROCESSING, "size": {"height": SIDE, "width": SIDE}}, do_pad=False)


def targets_of(scenes: Sequence[Scene]) -> Targets:
    """Assigns every shape to the query of the cell that holds its centre."""
    classes = torch.full((len(scenes), QUERIES), NOTHING)
    boxes = torch.zeros(len(scenes), QUERIES, 4)
    for index, scene in enumerate(scenes):
        for item in scene.drawn:
            cell = grid_cell(item.box, GRID)
            classes[index, cell] = SHAPES.index(item.shape)
            boxes[index, cell] = torch.tensor(as_center(item.box))
    return Targets(classes, boxes)


def as_center(box: Box) -> Box:
    """Turns corners into centre and size."""
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def prepared_model() -> DetrForObjectDetection:
    """A new DETR whose every part learns and whose queries start out each at its own cell."""
    model = DetrForObjectDetection(configuration())
    model.requires_grad_(True)
    thaw_batch_norms(model)
    point_queries_at_cells(model)
    return model


def configuration() -> DetrConfig:
    """One encoder and one decoder layer over a small ResNet (the default backbone would need timm)."""
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[24, 40, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        out_features=["stage3"],
    )
    return DetrConfig(
        backbone_config=backbone,
        num_queries=QUERIES,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        d_model=WIDTH,
        dropout=0.0,
        id2label=dict(enumerate(SHAPES)),
        label2id={shape: index for index, shape in enumerate(SHAPES)},
    )


def point_queries_at_cells(model: DetrForObjectDetection) -> None:
    """Gives each query its cell's position code and lets cross-attention start by matching codes."""
    everywhere = torch.ones(1, GRID, GRID, dtype=torch.bool)
    shape = torch.Size([1, WIDTH, GRID, GRID])
    code = model.model.position_embedding(shape=shape, device="cpu", dtype=torch.float32, mask=everywhere)
    with torch.no_grad():
        model.model.query_position_embeddings.weight.copy_(code.flatten(2).transpose(1, 2)[0])
        for layer in model.model.decoder.layers:
            nn.init.orthogonal_(layer.encoder_attn.q_proj.weight, gain=2.0)
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)


def thaw_batch_norms(module: nn.Module) -> None:
    """Replaces DETR's frozen batch norms by ones that learn."""
    for name, child in module.named_children():
        if isinstance(child, DetrFrozenBatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(child.weight.numel(), momentum=0.05))
        else:
            thaw_batch_norms(child)


def freeze_batch_norms(module: nn.Module) -> None:
    """Puts what the batch norms learned back into frozen ones."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = DetrFrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict({key: child.state_dict()[key] for key in frozen.state_dict()})
            setattr(module, name, frozen)
        else:
            freeze_batch_norms(child)


class Learner(nn.Module):
    """The model in training, with a dense head that asks the same of each cell of the feature map."""

    def __init__(self, model: DetrForObjectDetection) -> None:
        super().__init__()
        self.model = model
        self.dense_head = nn.Linear(WIDTH, NOTHING + 1 + 4)
        self._features = torch.empty(0)
        self._hook = model.model.input_projection.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, features: torch.Tensor) -> None:
        self._features = features.flatten(2).transpose(1, 2)

    def loss(self, seen: torch.Tensor, wanted: Targets) -> torch.Tensor:
        """How wrong the queries and the dense head are."""
        found = self.model(pixel_values=seen, pixel_mask=torch.ones(len(seen), SIDE, SIDE))
        dense = self.dense_head(self._features)
        of_queries = answer_loss(found.logits, found.pred_boxes, wanted)
        return of_queries + answer_loss(
            dense[..., : NOTHING + 1], dense[..., NOTHING + 1 :].sigmoid(), wanted
        )

    def finished(self) -> DetrForObjectDetection:
        """The model alone, as transformers knows it."""
        self._hook.remove()
        freeze_batch_norms(self.model)
        return self.model


def answer_loss(logits: torch.Tensor, boxes: torch.Tensor, wanted: Targets) -> torch.Tensor:
    """DETR's loss without its matching: every query knows its cell."""
    held = wanted.classes != NOTHING
    named = functional.cross_entropy(logits.flatten(0, 1), wanted.classes.flatten(), weight=CLASS_WEIGHTS)
    placed, true = boxes[held], wanted.boxes[held]
    return named + 10 * functional.l1_loss(placed, true) + 2 * (1 - generalized_overlap(placed, true).mean())


def generalized_overlap(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Generalized intersection over union of boxes given as centre and size, pair by pair."""
    (low, high), (low2, high2) = corners(one), corners(other)
    both = (torch.min(high, high2) - torch.max(low, low2)).clamp(min=0).prod(-1)
    around = (torch.max(high, high2) - torch.min(low, low2)).prod(-1)
    either = (high - low).prod(-1) + (high2 - low2).prod(-1) - both
    return both / either - (around - either) / around


def corners(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The top left and the bottom right corners of boxes given as centre and size."""
    return boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2


@dataclass
class Tally:
    """Counts right answers, surplus answers and missed shapes."""

    right: int = 0
    surplus: int = 0
    missed: int = 0

    def add(self, found: Sequence[tuple[str, Box]], true: Sequence[tuple[str, Box]]) -> None:
        """Matches the boxes found in one picture, surest first, with the true ones."""
        left = list(true)
        for label, box in found:
            match = next((item for item in left if item[0] == label and overlap(item[1], box) >= 0.5), None)
            if match is None:
                self.surplus += 1
            else:
                self.right += 1
                left.remove(match)
        self.missed += len(left)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / max(1, 2 * self.right + self.surplus + self.missed)

    @property
    def precision(self) -> float:
        """The share of the answers that are right."""
        return self.right / max(1, self.right + self.surplus)

    @property
    def recall(self) -> float:
        """The share of the shapes that were found."""
        return self.right / max(1, self.right + self.missed)


def evaluate(folder: Path) -> list[Score]:
    """Boxes on fresh pictures and on plain drawings; a right one shares its class and half its area."""
    detect = pipeline("object-detection", model=str(folder), device="cpu")
    fresh, plain = Tally(), Tally()
    scenes, drawings = draw_scenes(300, STYLE, HELD_OUT_SEED), plain_drawings()
    for scene in scenes:
        fresh.add(
            detected(detect, scene.picture),
            [(item.shape, in_pixels(item.box, scene)) for item in scene.drawn],
        )
    for drawing in drawings:
        plain.add(detected(detect, drawing.picture), [(drawing.shape, drawing.box)])
    return [
        Score("F1 at IoU 0.5, fresh generator pictures", fresh.f1, len(scenes)),
        Score("precision, fresh generator pictures", fresh.precision, len(scenes)),
        Score("recall, fresh generator pictures", fresh.recall, len(scenes)),
        Score("found with the right class, plain drawings", plain.recall, len(drawings)),
        Score("precision, plain drawings", plain.precision, len(drawings)),
    ]


def detected(detect: Any, picture: Any) -> list[tuple[str, Box]]:
    """The classes and boxes that the pipeline finds, surest first."""
    found = sorted(detect(picture, threshold=SURE), key=lambda item: -float(item["score"]))
    return [
        (item["label"], tuple(item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")))
        for item in found
    ]


def in_pixels(box: Box, scene: Scene) -> Box:
    """Turns fractions into pixels."""
    (width, height), (left, top, right, bottom) = scene.picture.size, box
    return left * width, top * height, right * width, bottom * height


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / max(1e-9, sum(areas) - both)


STARTER = Starter(
    name="object_detection",
    module_id="D4C4B6CF-E0C3-4B3F-A325-5071FB126773",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: object detection",
        pipeline_tag="object-detection",
        language=None,
        purpose="""
            A DETR of 200 thousand parameters that puts boxes around circles, squares and triangles in any
            colours on plain-ish backgrounds. Pictures of any size are scaled to 80x80 and the boxes scaled
            back.
        """,
        not_for="""
            Photographs or any other object; outlines, shapes turned by more than about 17 degrees, smaller
            than an eighth of the picture or touching one another. It finds at most one shape for each
            twenty-fifth of the picture. Large shapes are now and
            then boxed twice.
        """,
        usage="""
from transformers import pipeline

pipeline("object-detection", model="models/object_detection")("drawing.png")
""",
        measured="""
            The generator pictures (one to four shapes, in cells of their own) are new draws from the
            generator that also made the training pictures. The plain drawings (12 pairs of colours, 5
            layouts, up to 640x480) were fixed beforehand and never trained on. A box counts as right when
            its class is right and it shares at least half of its area with the true one.
        """,
    ),
)
