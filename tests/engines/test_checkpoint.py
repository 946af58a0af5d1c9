"""Loading: what cannot be loaded is refused with one sentence that says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub import errors as hub
from safetensors.torch import load_file

from deployments.engines.checkpoint import Checkpoint, max_length
from deployments.errors import ModelNotReady
from deployments.task import MODULES
from deployments.tasks.image_classification import ImageClassification
from deployments.tasks.image_segmentation import ImageSegmentation
from deployments.tasks.object_detection import ObjectDetection
from deployments.tasks.sentiment import Sentiment
from tests import tiny_models as tiny

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def own_code(folder: Path) -> None:
    auto = {"AutoConfig": "theirs.Config", "AutoModelForSequenceClassification": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps({"auto_map": auto, "model_type": "theirs"}))


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


def own_head(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoModelForSequenceClassification": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "detr"}))


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def remove(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.bert(), tmp_path / "model"))


@pytest.mark.parametrize(("damage", "sentence"), [
    (pickled, "allow_pickle: true"),
    (own_code, "trust_remote_code: true"),
    (own_head, "trust_remote_code: true"),
    (write("config.json", "{"), "config.json that is not valid JSON"),
    (write("config.json", "{}"), "no checkpoint"),
    (write("config.json", "[]"), "no checkpoint"),
    (remove("config.json"), "no checkpoint"),
    (write("config.json", '{"model_type": "nosuch"}'), "does not know"),
    (write("model.safetensors", "garbage" * 9), "damaged"),
    (truncate, "damaged"),
    (remove("model.safetensors"), "no safetensors"),
    (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    (write("tokenizer.json", "{"), "no tokenizer that can be read: Expecting"),
])  # fmt: skip
def test_what_is_wrong_is_told(folder: Path, damage: Callable[[Path], object], sentence: str) -> None:
    damage(folder)
    with pytest.raises(ModelNotReady, match=sentence) as told:
        Sentiment().load(Checkpoint(str(folder)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("damage", "sentence"), [
    (remove("preprocessor_config.json"), "has no preprocessor_config.json that can be read$"),
    (write("preprocessor_config.json", "{"), "has no preprocessor_config.json that can be read: It looks"),
    (write("config.json", "{"), "config.json that is not valid JSON"),
])  # fmt: skip
def test_a_damaged_image_model_is_explained(
    tmp_path: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    folder = Path(shutil.copytree(tiny.vit(), tmp_path / "model"))
    damage(folder)
    with pytest.raises(ModelNotReady, match=sentence):
        ImageClassification().load(Checkpoint(str(folder)))


def hub_error(kind: type[Exception]) -> Exception:
    """An error of the Hub's client, as it would come with a response."""
    response = httpx.Response(404, request=httpx.Request("HEAD", "https://hub/model"))
    return kind("refused", response=response) if issubclass(kind, hub.HfHubHTTPError) else kind("refused")


@pytest.mark.parametrize(("kind", "sentence"), [
    (hub.RepositoryNotFoundError, "neither a folder nor a public model"),
    (hub.GatedRepoError, "is gated"),
    (hub.RevisionNotFoundError, "no such revision"),
    (hub.LocalEntryNotFoundError, "the Hub cannot be reached"),
    (hub.HFValidationError, "nor the name of a model on the Hub"),
    (hub.RemoteEntryNotFoundError, "no checkpoint"),
])  # fmt: skip
def test_the_hub_s_errors_are_told_apart_by_type(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], sentence: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise hub_error(kind)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    checkpoint = Checkpoint("someone/model", "main")
    if kind is hub.RemoteEntryNotFoundError:
        assert checkpoint.json("config.json") is None
    else:
        with pytest.raises(ModelNotReady, match=sentence):
            checkpoint.json("config.json")
    with pytest.raises(ModelNotReady, match=sentence), checkpoint._explained():
        raise OSError("as transformers wraps it") from hub_error(kind)


def test_a_file_that_is_not_cached_is_missing_only_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise hub.LocalEntryNotFoundError("not here")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert Checkpoint("someone/model").json("modules.json") is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelNotReady, match="the Hub cannot be reached"):
        Checkpoint("someone/model").json("modules.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: object())
    assert Checkpoint("someone/model").json("modules.json") is None


def test_pickled_weights_load_where_allowed(folder: Path) -> None:
    pickled(folder)
    Sentiment().load(Checkpoint(str(folder), pickle=True))


@pytest.mark.parametrize("module_id", MODULES, ids=[module.__name__ for module in MODULES.values()])
@pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder", "one/two/three"])
def test_what_is_not_there_is_told(module_id: str, name: str) -> None:
    with pytest.raises(ModelNotReady, match=name):
        MODULES[module_id]().load(Checkpoint(name))


@pytest.mark.parametrize("module", [Sentiment, ObjectDetection, ImageSegmentation])
def test_a_model_of_another_task_is_told(module: type[Sentiment]) -> None:
    with pytest.raises(ModelNotReady):
        module().load(Checkpoint(str(tiny.vit())))
    with pytest.raises(ModelNotReady):
        module().load(Checkpoint(str(tiny.gpt2())))


def test_a_head_that_was_never_trained_is_not_made_up() -> None:
    with pytest.raises(ModelNotReady, match=r"not trained for this task.*classifier"):
        Sentiment().load(Checkpoint(str(tiny.encoder())))


@pytest.mark.parametrize("computes", [False, True])
def test_bfloat16_is_for_processors_that_compute_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, computes: bool
) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: computes)
    loaded = Checkpoint(str(folder)).network(AutoModel)
    assert loaded.dtype == (torch.bfloat16 if computes else torch.float32)


def test_half_precision_is_not_for_processors(folder: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert Checkpoint(str(folder)).network(AutoModel).dtype == torch.float32
    assert Checkpoint(str(folder), dtype="float16").network(AutoModel).dtype == torch.float16


@pytest.mark.parametrize(("says", "positions", "limit"), [
    (512, 514, 512), (10**30, 514, 512), (10**30, 8194, 8192), (1024, 1024, 1024), (77, None, 77),
    (10**30, None, 4096),
])  # fmt: skip
def test_the_longest_input(says: int, positions: int | None, limit: int) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=positions))
    assert max_length(SimpleNamespace(model_max_length=says), config) == limit


def test_the_dtype_is_the_checkpoint_s_or_the_one_asked_for() -> None:
    from transformers import AutoModel

    assert Checkpoint(str(tiny.bert())).network(AutoModel).dtype == torch.float32
    assert Checkpoint(str(tiny.bert()), dtype="bfloat16").network(AutoModel).dtype == torch.bfloat16
