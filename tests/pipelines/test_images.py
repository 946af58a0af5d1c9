"""Image tasks: boxes and masks in the coordinates of the input image, thresholds, sizes, subtasks."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch.nn.functional import interpolate

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput, ModelNotReady
from deployments.pipelines.images import input_channels
from deployments.pipelines.segmentation import max_mask_size
from deployments.task import Module
from deployments.tasks.image_classification import ImageClassification
from deployments.tasks.image_segmentation import ImageSegmentation
from deployments.tasks.object_detection import ObjectDetection
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded, starter
from tests.samples import picture

pytestmark = pytest.mark.model

SIZES = [(64, 64), (90, 60), (40, 120), (64, 64), (200, 130), (33, 71)]
SEGMENTS = {"threshold": 0, "mask_threshold": 0.1}


def see(module: Module, *pictures: bytes, **params: Any) -> list[Any]:
    inputs = [module.task.input(image=data) for data in pictures]
    return answers(module, inputs, module.task.params(**params))


def pixels(mask: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(mask)))


@pytest.mark.parametrize(("module_id", "folder", "params"), [
    (ImageClassification.module_id, tiny.vit, {}),
    (ObjectDetection.module_id, tiny.detr_detection, {"threshold": 0}),
    (ObjectDetection.module_id, tiny.yolos, {"threshold": 0}),
    (ImageSegmentation.module_id, tiny.detr_segmentation, SEGMENTS),
    (ImageSegmentation.module_id, tiny.detr_segmentation, {**SEGMENTS, "subtask": "instance"}),
    (ImageSegmentation.module_id, tiny.detr_segmentation, {"subtask": "semantic"}),
], ids=["vit", "detr", "yolos", "panoptic", "instance", "semantic"])  # fmt: skip
def test_batch_neighbours_do_not_change_outputs(module_id: str, folder: Any, params: dict[str, Any]) -> None:
    module = loaded(module_id, folder())
    pictures = [picture(*size) for size in SIZES]
    in_company = see(module, *pictures, **params)
    for data, together in zip(pictures, in_company, strict=True):
        [alone] = see(module, data, **params)
        assert together.model_dump().keys() == alone.model_dump().keys()
        assert_alike(together, alone)
    assert any(parts for output in in_company for _, parts in output)


def assert_alike(one: Any, other: Any) -> None:
    [(_, parts), (_, others)] = [*one, *other]
    for part, twin in zip(parts, others, strict=True):
        assert part.label == twin.label
        assert part.score == pytest.approx(twin.score, abs=1e-4)
        assert getattr(part, "box", None) == getattr(twin, "box", None)
        if hasattr(part, "mask"):
            assert (pixels(part.mask) != pixels(twin.mask)).mean() < 1e-3


@pytest.mark.parametrize("folder", [tiny.detr_detection, tiny.yolos], ids=["detr", "yolos"])
def test_detection_matches_transformers_pipeline(folder: Any) -> None:
    module = loaded(ObjectDetection.module_id, folder())
    pipeline = hf.pipeline("object-detection", model=module.model, image_processor=module.processor)
    data = picture(90, 60)
    expected = pipeline(Image.open(io.BytesIO(data)), threshold=0.1)
    [found] = see(module, data, threshold=0.1)
    assert len(found.objects) == len(expected) > 0
    for thing, twin in zip(found.objects, sorted(expected, key=lambda e: -e["score"]), strict=True):
        assert (thing.label, thing.score) == (twin["label"], pytest.approx(twin["score"], abs=1e-5))
        for edge, place in thing.box.model_dump().items():
            assert abs(place - min(max(twin["box"][edge], 0), 90)) <= 1


def test_boxes_lie_within_the_image_best_first() -> None:
    module = loaded(ObjectDetection.module_id, tiny.yolos())
    for size, found in zip(SIZES, see(module, *(picture(*s) for s in SIZES), threshold=0), strict=True):
        scores = [thing.score for thing in found.objects]
        assert scores == sorted(scores, reverse=True)
        for thing in found.objects:
            assert 0 <= thing.box.xmin <= thing.box.xmax <= size[0]
            assert 0 <= thing.box.ymin <= thing.box.ymax <= size[1]


def test_detection_threshold() -> None:
    module = starter(ObjectDetection.module_id)
    [everything], [nothing] = (
        see(module, picture(90, 90), threshold=0),
        see(module, picture(90, 90), threshold=1),
    )
    [some] = see(module, picture(90, 90), threshold=0.5)
    assert len(everything.objects) > len(some.objects) >= len(nothing.objects) == 0
    assert some.objects == [thing for thing in everything.objects if thing.score > 0.5]


def test_masks_have_the_images_size() -> None:
    for module in (
        starter(ImageSegmentation.module_id),
        loaded(ImageSegmentation.module_id, tiny.detr_segmentation()),
    ):
        drawn = 0
        for width, height in SIZES:
            [found] = see(module, picture(width, height), threshold=0, mask_threshold=0.1)
            drawn += len(found.segments)
            for segment in found.segments:
                mask = Image.open(io.BytesIO(segment.mask))
                assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (width, height))
                assert set(np.unique(pixels(segment.mask))) <= {0, 255}
        assert drawn


def test_semantic_masks_partition_the_image() -> None:
    [found] = see(starter(ImageSegmentation.module_id), picture(80, 60))
    assert sum(pixels(segment.mask).astype(int) for segment in found.segments).min() == 255
    assert sum(pixels(segment.mask).astype(int) for segment in found.segments).max() == 255
    assert all(segment.score is None for segment in found.segments)


@pytest.fixture
def enlarged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers each enlarging of scores or masks has made."""
    sizes: list[int] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        sizes.append((made := interpolate(*args, **kwargs)).numel())
        return made

    monkeypatch.setattr("torch.nn.functional.interpolate", spy)
    return sizes


@pytest.mark.parametrize("size", [(160, 90), (120, 240), (97, 200)])
def test_semantic_map_is_computed_in_strips(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, enlarged: list[int]
) -> None:
    monkeypatch.setattr("deployments.pipelines.segmentation.MAX_STRIP_SCORES", 20_000)
    module = starter(ImageSegmentation.module_id)
    [prepared] = module.encode([module.task.input(image=picture(*size))], module.task.params())
    with torch.inference_mode():
        outputs = module.model(**prepared.input.features)
    [whole] = module.processor.post_process_semantic_segmentation(outputs, target_sizes=[size[::-1]])
    enlarged.clear()
    [found] = see(module, picture(*size))
    assert max(enlarged) <= 20_000 < 4 * size[0] * size[1]
    for segment in found.segments:
        label = module.model.config.label2id[segment.label]
        assert np.array_equal(pixels(segment.mask) == 255, whole == label)


@pytest.mark.parametrize("subtask", ["panoptic", "instance"])
def test_masks_of_a_large_image_are_computed_smaller(
    subtask: str, monkeypatch: pytest.MonkeyPatch, enlarged: list[int]
) -> None:
    module = loaded(ImageSegmentation.module_id, tiny.detr_segmentation())
    [exact] = see(module, picture(200, 130), subtask=subtask, **SEGMENTS)
    monkeypatch.setattr("deployments.pipelines.segmentation.MAX_MASK_PIXELS", 50_000)
    enlarged.clear()
    [found] = see(module, picture(200, 130), subtask=subtask, **SEGMENTS)
    assert max(enlarged) <= 50_000 < 5 * 200 * 130
    assert [part.label for part in found.segments] == [part.label for part in exact.segments]
    for part, twin in zip(found.segments, exact.segments, strict=True):
        assert (pixels(part.mask) != pixels(twin.mask)).mean() < 0.03


def test_mask_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.pipelines.segmentation.MAX_MASK_PIXELS", 1000)
    assert max_mask_size((10, 10), 10) == (10, 10)
    assert max_mask_size((20, 40), 10) == (7, 14)
    assert max_mask_size((1, 10_000), 10) == (1, 100)
    assert max_mask_size((10_000, 1), 10) == (100, 1)


def test_unsupported_segmentation_subtask_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'panoptic'.*\['semantic'\]"):
        see(starter(ImageSegmentation.module_id), picture(64, 64), subtask="panoptic")


def test_classification_matches_transformers_pipeline() -> None:
    module = loaded(ImageClassification.module_id, tiny.vit())
    pipeline = hf.pipeline("image-classification", model=module.model, image_processor=module.processor)
    [found] = see(module, picture(90, 60))
    expected = pipeline(Image.open(io.BytesIO(picture(90, 60))))
    assert [label.label for label in found.labels] == [label["label"] for label in expected]
    assert [label.score for label in found.labels] == pytest.approx([label["score"] for label in expected])
    assert len(see(module, picture(9, 9), top_k=2)[0].labels) == 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_image_formats_and_modes(form: str) -> None:
    module = starter(ImageClassification.module_id)
    assert see(module, picture(64, 64, form))[0].labels[0].label == "circle"


def test_exif_orientation_is_applied() -> None:
    encoded, sideways = io.BytesIO(), Image.Exif()
    sideways[0x0112] = 6
    Image.open(io.BytesIO(picture(80, 40))).save(encoded, "JPEG", exif=sideways)
    [found] = see(starter(ImageSegmentation.module_id), encoded.getvalue())
    assert pixels(found.segments[0].mask).shape == (80, 40)


def test_unusable_image_shape_is_invalid_input() -> None:
    module = loaded(ObjectDetection.module_id, tiny.detr_detection())
    with pytest.raises(InvalidInput, match="9000 x 1 pixels"):
        see(module, picture(9000, 1))


def vit_of_channels(channels: int, processed: int | None = None, **processor: Any) -> Path:
    """Return a ViT that reads images of some channels, with a processor that has means for `processed`."""
    torch.manual_seed(0)
    mean = [0.4] * (processed or channels)
    config = hf.ViTConfig(image_size=32, patch_size=16, num_channels=channels, **tiny.SMALL, **tiny.LABELS)
    size = {"height": 32, "width": 32}
    images = hf.ViTImageProcessorPil(size=size, image_mean=mean, image_std=mean, **processor)
    return tiny.save(tiny.louder(hf.ViTForImageClassification(config), 6), images)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_network_of_one_channel_sees_what_transformers_shows_it(mode: str) -> None:
    module = loaded(ImageClassification.module_id, vit_of_channels(1))
    data, shades = io.BytesIO(), Image.linear_gradient("L").resize((50, 40))
    image = (
        Image.fromarray(np.asarray(shades).astype(np.uint16) * 257)
        if mode == "I;16"
        else shades.convert(mode)
    )
    image.save(data, "PNG")
    grey = shades if mode == "I;16" else image.convert("RGB").convert("L")
    with torch.inference_mode():
        outputs = module.model(**module.processor(images=[grey], return_tensors="pt"))
    expected = outputs.logits.softmax(-1)[0].sort(descending=True)
    [found] = see(module, data.getvalue())
    assert [label.score for label in found.labels] == pytest.approx(expected.values.tolist(), abs=1e-5)
    assert [label.label for label in found.labels] == [
        tiny.LABELS["id2label"][i] for i in expected.indices.tolist()
    ]


@pytest.mark.parametrize(
    ("channels", "processor", "reason"),
    [
        (2, {}, "reads images of 2 channels; Roster has only images of 1 .* and 3 .* channels"),
        (4, {}, "reads images of 4 channels"),
        (
            1,
            {"processed": 3},
            "reads images of 1 channel; its image processor cannot prepare such an image: ",
        ),
        (1, {"processed": 3, "do_convert_rgb": True}, "its image processor makes images of 3 channels"),
        (3, {"processed": 1}, "reads images of 3 channels; its image processor cannot prepare"),
    ],
)
def test_network_of_unusable_channels_is_unavailable(channels: int, processor: Any, reason: str) -> None:
    with pytest.raises(ModelNotReady, match=reason):
        ImageClassification().load(Checkpoint(str(vit_of_channels(channels, **processor))))


def test_channels_of_a_backbone_are_known() -> None:
    assert input_channels(hf.DetrConfig(backbone_config=hf.ResNetConfig(num_channels=1))) == 1
    assert input_channels(hf.CLIPConfig(vision_config={"num_channels": 4})) == 4
    assert input_channels(hf.BertConfig()) == 3
