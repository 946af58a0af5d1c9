"""Checkpoints of the Hub: what is downloaded, the progress, and a Hub that cannot be reached."""

import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_download

from deployments.engines import hub as connection
from deployments.engines import hub_download
from deployments.engines.checkpoint import Checkpoint
from deployments.engines.hub import hub_or_cache, may_download
from deployments.engines.hub_download import needed_files, progress_text
from deployments.errors import ModelNotReady
from deployments.tasks.sentiment import Sentiment
from tests import tiny_models as tiny
from tests.fake_hub import COMMIT, NAME, FakeHub, refused_url, serve_hub, silent_url, use_endpoint

DEADLINE_S = 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a checkpoint with files that loading does not need."""
    folder = Path(shutil.copytree(tiny.bert(), tmp_path / "checkpoint"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"x" * 100_000)
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100_000)
    (folder / "README.md").write_text("A model.")
    return folder


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    hub = FakeHub(folder)
    with serve_hub(hub, monkeypatch, tmp_path / "cache"):
        yield hub


def load(name: str = NAME, revision: str | None = None, report: Any = lambda _: None) -> None:
    """Load a checkpoint as a replica does."""
    checkpoint = Checkpoint(name, revision)
    with hub_or_cache(name, revision):
        checkpoint.json("config.json")
        checkpoint.download(report)
        Sentiment().load(checkpoint)


def test_download_reports_progress(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_download, "REPORT_S", 0.0)
    monkeypatch.setattr(hub_download, "CHUNK_BYTES", 4096)
    reports: list[str] = []
    load(report=reports.append)
    assert reports[0].startswith("downloading 0.0 of ")
    done, of, total, unit = reports[-1].removeprefix("downloading ").split()
    assert (done, of, unit) == (total, "of", "kB")
    assert len({*reports}) > 4


def test_download_leaves_files_that_loading_does_not_need(hub: FakeHub) -> None:
    load(revision="main")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*hub.downloaded}
    assert not {"onnx/model.onnx", "onnx/config.json", "pytorch_model.bin", "README.md"} & {*hub.downloaded}
    assert len(hub.downloaded) == len({*hub.downloaded}), "no file is downloaded twice"


def test_cached_checkpoint_is_not_downloaded_again(hub: FakeHub) -> None:
    load()
    hub.downloaded.clear()
    reports: list[str] = []
    load(report=reports.append)
    assert not hub.downloaded
    assert not reports


def test_hub_without_a_list_of_files_still_serves_the_checkpoint(hub: FakeHub) -> None:
    hub.has_list = False
    reports: list[str] = []
    load(report=reports.append)
    assert "model.safetensors" in hub.downloaded
    assert not reports


def test_download_error_is_explained(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(name: str, path: str, **options: Any) -> str:
        if path == "model.safetensors":
            raise OSError(28, "No space left on device")
        return hf_hub_download(name, path, **options)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fill_disk)
    with pytest.raises(ModelNotReady, match="No space left on device"):
        Checkpoint(NAME).download(lambda _: None)


@pytest.mark.parametrize("kind", ["refused", "no DNS", "silent"])
def test_unreachable_hub_is_reported_within_five_seconds(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_url() if kind == "silent" else nullcontext("") as silent:
        url = silent or (refused_url() if kind == "refused" else "https://no-such-host.invalid")
        use_endpoint(url, monkeypatch, tmp_path)
        begin = time.monotonic()
        with pytest.raises(ModelNotReady) as error:
            load()
    assert time.monotonic() - begin < DEADLINE_S
    assert f"{NAME!r} is not in this machine's cache; the Hub ({url}) cannot be reached: " in str(error.value)
    assert str(error.value).endswith("or set HF_ENDPOINT, or HF_HUB_OFFLINE=1 with a filled cache")
    assert "\n" not in str(error.value)


def test_unanswered_name_lookup_is_reported_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint("https://slow-dns.invalid", monkeypatch, tmp_path)
    monkeypatch.setattr(connection, "ANSWER_S", 0.2)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(2))
    begin = time.monotonic()
    with pytest.raises(ModelNotReady, match=r"no answer within 0\.2 s"):
        load()
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("kind", ["refused", "silent"])
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_cached_checkpoint_loads_while_the_hub_is_unreachable(
    hub: FakeHub, kind: str, revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(revision=revision)
    monkeypatch.setattr(connection, "ANSWER_S", 0.3)
    with silent_url() if kind == "silent" else nullcontext("") as silent:
        use_endpoint(silent or refused_url(), monkeypatch, tmp_path / "cache")
        begin = time.monotonic()
        load(revision=revision)
        assert time.monotonic() - begin < 2
        assert may_download(NAME), "only the load is offline"


def test_cached_checkpoint_in_a_subfolder_loads_while_the_hub_is_unreachable(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.folder / "0_Transformer").mkdir()
    (hub.folder / "config.json").rename(hub.folder / "0_Transformer" / "config.json")
    Checkpoint(NAME).json("0_Transformer/config.json")
    use_endpoint(refused_url(), monkeypatch, tmp_path / "cache")
    with hub_or_cache(NAME, None):
        assert Checkpoint(NAME).json("0_Transformer/config.json")


def test_partly_cached_checkpoint_names_the_unreachable_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Checkpoint(NAME).json("config.json")
    use_endpoint(refused_url(), monkeypatch, tmp_path / "cache")
    with pytest.raises(ModelNotReady, match=r"only this machine's cache was read: the Hub \(http://127"):
        load()


def test_slow_hub_is_not_unreachable(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    hub.delay_s = 0.3  # model.safetensors has several chunks
    begin = time.monotonic()
    load()
    assert time.monotonic() - begin > connection.ANSWER_S


def test_error_of_a_hub_that_answers_is_explained_by_the_load(hub: FakeHub) -> None:
    (hub.folder / "config.json").unlink()
    with pytest.raises(ModelNotReady, match="is no checkpoint: it has no config"):
        load()


@pytest.mark.parametrize("name", ["/no/such/folder", "one/two/three", str(Path(__file__).parent)])
def test_names_that_are_not_on_the_hub_send_no_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert not may_download(name)


def test_offline_mode_sends_no_request(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotReady, match="not completely in this machine's cache, and offline mode"):
        load()
    assert not hub.requests


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
DENSE = ["2_Dense/model.safetensors", "1_Pooling/config.json"]
TEXTS = ["tokenizer.model", "vocab.txt", "chat_template.jinja"]


@pytest.mark.parametrize(("paths", "options", "needed"), [
    (["model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"], {}, ["model.safetensors"]),
    ([*SHARDS, "model.safetensors.index.json"], {}, [*SHARDS, "model.safetensors.index.json"]),
    ([*SHARDS, "model.safetensors"], {}, ["model.safetensors"]),
    (["pytorch_model.bin", "model.safetensors"], {"pickle": True}, ["model.safetensors"]),
    (["pytorch_model.bin"], {"pickle": True}, ["pytorch_model.bin"]),
    (["pytorch_model.bin"], {}, []),
    (DENSE, {}, DENSE),
    (["onnx/config.json", "original/params.json", "tf_model.h5"], {}, []),
    (TEXTS, {}, TEXTS),
    (["modeling.py"], {}, []),
    (["modeling.py"], {"code": True}, ["modeling.py"]),
])  # fmt: skip
def test_needed_files(paths: list[str], options: dict[str, bool], needed: list[str]) -> None:
    assert needed_files(paths, **options) == needed


@pytest.mark.parametrize(("done", "total", "text"), [
    (1.2e9, 3.4e9, "1.2 of 3.4 GB"),
    (0, 25e6, "0.0 of 25.0 MB"),
    (900, 800, "0.8 of 0.8 kB"),
])  # fmt: skip
def test_progress_text(done: float, total: float, text: str) -> None:
    assert progress_text(done, total) == text
