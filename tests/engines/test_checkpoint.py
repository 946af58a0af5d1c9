"""Loading of checkpoints: explanations of failed loads, dtypes and length limits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers as hf
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.task import MODULES
from deployments.tasks.image_classification import ImageClassification
from deployments.tasks.image_segmentation import ImageSegmentation
from deployments.tasks.object_detection import ObjectDetection
from deployments.tasks.sentiment import Sentiment
from tests import tiny_models as tiny

pytestmark = pytest.mark.model


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def require_remote_code(folder: Path) -> None:
    auto = {"AutoConfig": "remote.Config", "AutoModelForSequenceClassification": "remote.Model"}
    (folder / "config.json").write_text(json.dumps({"auto_map": auto, "model_type": "remote"}))


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


def require_remote_head(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoModelForSequenceClassification": "remote.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": "detr"}))


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def remove(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.bert(), tmp_path / "model"))


@pytest.mark.parametrize(("damage", "message"), [
    (pickle_weights, "allow_pickle: true"),
    (require_remote_code, "trust_remote_code: true"),
    (require_remote_head, "trust_remote_code: true"),
    (write("config.json", "{"), "config.json that is not valid JSON"),
    (write("config.json", "{}"), "no checkpoint"),
    (write("config.json", "[]"), "no checkpoint"),
    (remove("config.json"), "no checkpoint"),
    (write("config.json", '{"model_type": "nosuch"}'), "does not support"),
    (write("model.safetensors", "garbage" * 9), "damaged"),
    (truncate, "damaged"),
    (remove("model.safetensors"), "no safetensors"),
    (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    (write("tokenizer.json", "{"), "no readable tokenizer: Expecting"),
])  # fmt: skip
def test_damaged_text_model_is_explained(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelNotReady, match=message) as error:
        Sentiment().load(Checkpoint(str(folder)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("damage", "message"), [
    (remove("preprocessor_config.json"), "has no readable preprocessor_config.json$"),
    (write("preprocessor_config.json", "{"), "has no readable preprocessor_config.json: It looks"),
    (write("config.json", "{"), "config.json that is not valid JSON"),
])  # fmt: skip
def test_damaged_image_model_is_explained(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(tiny.vit(), tmp_path / "model"))
    damage(folder)
    with pytest.raises(ModelNotReady, match=message):
        ImageClassification().load(Checkpoint(str(folder)))


def hub_error(error_type: type[Exception]) -> Exception:
    """Create an error of the Hub's client, with a response if the type has one."""
    response = httpx.Response(404, request=httpx.Request("HEAD", "https://hub/model"))
    if issubclass(error_type, hub.HfHubHTTPError):
        return error_type("refused", response=response)
    return error_type("refused")


@pytest.mark.parametrize(("error_type", "message"), [
    (hub.RepositoryNotFoundError, "neither a folder nor a public model"),
    (hub.GatedRepoError, "is gated"),
    (hub.RevisionNotFoundError, "no such revision"),
    (hub.LocalEntryNotFoundError, "the Hub cannot be reached"),
    (hub.HFValidationError, "nor the name of a model on the Hub"),
    (hub.RemoteEntryNotFoundError, "no checkpoint"),
])  # fmt: skip
def test_hub_errors_are_explained_by_type(
    monkeypatch: pytest.MonkeyPatch, error_type: type[Exception], message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise hub_error(error_type)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    checkpoint = Checkpoint("someone/model", "main")
    if error_type is hub.RemoteEntryNotFoundError:
        assert checkpoint.json("config.json") is None
    else:
        with pytest.raises(ModelNotReady, match=message):
            checkpoint.json("config.json")
    with pytest.raises(ModelNotReady, match=message), checkpoint._load_errors():
        raise OSError("transformers wraps the error") from hub_error(error_type)


def test_uncached_file_counts_as_missing_only_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise hub.LocalEntryNotFoundError("not here")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    assert Checkpoint("someone/model").json("modules.json") is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelNotReady, match="the Hub cannot be reached"):
        Checkpoint("someone/model").json("modules.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: object())
    assert Checkpoint("someone/model").json("modules.json") is None


def test_pickled_weights_load_if_allowed(folder: Path) -> None:
    pickle_weights(folder)
    Sentiment().load(Checkpoint(str(folder), pickle=True))


@pytest.mark.parametrize("module_id", MODULES, ids=[module.__name__ for module in MODULES.values()])
@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "/no/such/folder", "one/two/three"])
def test_missing_model_is_explained(module_id: str, name: str) -> None:
    with pytest.raises(ModelNotReady, match=name):
        MODULES[module_id]().load(Checkpoint(name))


@pytest.mark.parametrize("module", [Sentiment, ObjectDetection, ImageSegmentation])
def test_model_of_another_task_is_rejected(module: type[Sentiment]) -> None:
    with pytest.raises(ModelNotReady):
        module().load(Checkpoint(str(tiny.vit())))
    with pytest.raises(ModelNotReady):
        module().load(Checkpoint(str(tiny.gpt2())))


def test_missing_head_weights_are_rejected() -> None:
    with pytest.raises(ModelNotReady, match=r"not trained for this task.*classifier"):
        Sentiment().load(Checkpoint(str(tiny.encoder())))


@pytest.mark.parametrize("supported", [False, True])
def test_bfloat16_only_on_cpus_that_support_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, supported: bool
) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    loaded = Checkpoint(str(folder)).network(AutoModel)
    assert loaded.dtype == (torch.bfloat16 if supported else torch.float32)


def test_float16_becomes_float32_on_cpus_unless_configured(folder: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert Checkpoint(str(folder)).network(AutoModel).dtype == torch.float32
    assert Checkpoint(str(folder), dtype="float16").network(AutoModel).dtype == torch.float16


def test_dtype_is_the_configured_or_the_checkpoints_one() -> None:
    from transformers import AutoModel

    assert Checkpoint(str(tiny.encoder())).network(AutoModel).dtype == torch.float32
    assert Checkpoint(str(tiny.encoder()), dtype="bfloat16").network(AutoModel).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "name", ["classifier.weight", "score.weight", "qa_outputs.bias", "v_head.summary.weight"]
)
def test_a_head_is_not_dropped(name: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = shutil.copytree(tiny.encoder(), tmp_path / "m")
    path = folder / "model.safetensors"
    save_file({**load_file(path), name: torch.zeros(2, 16)}, path, {"format": "pt"})
    with pytest.raises(ModelNotReady, match=name):
        Checkpoint(str(folder)).network(AutoModel)


@pytest.mark.parametrize("make", [hf.BertForMaskedLM, hf.BertForPreTraining, hf.ElectraForPreTraining])
def test_a_head_of_pretraining_is_not_needed(make: Any) -> None:
    from transformers import AutoModel

    torch.manual_seed(0)
    config = make.config_class(
        vocab_size=30, **tiny.SMALL, **({"embedding_size": 16} if "Electra" in make.__name__ else {})
    )
    network = make(config)
    loaded = Checkpoint(str(tiny.save(network))).network(AutoModel)
    assert torch.equal(loaded.get_input_embeddings().weight, network.get_input_embeddings().weight)


def test_a_pooler_that_a_head_reads_is_not_random(tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.bert(), tmp_path / "m")
    path = folder / "model.safetensors"
    save_file({key: t for key, t in load_file(path).items() if "pooler" not in key}, path, {"format": "pt"})
    with pytest.raises(ModelNotReady, match=r"pooler.*"):
        Checkpoint(str(folder)).network(hf.AutoModelForSequenceClassification)
