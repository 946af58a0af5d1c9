"""The models folder is read by looking again: what is still being written is left alone."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from deployments.catalog.model_folders import ModelFolderWatcher

ID = "FADC770C-25C8-4685-A176-51FF67B382C1"


def add(root: Path, name: str, text: str = f"module_id: {ID}") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(text)
    return folder


def test_scan_waits_until_two_scans_agree(tmp_path: Path) -> None:
    folders = ModelFolderWatcher(tmp_path)
    add(tmp_path, "a")
    assert folders.scan() == {}
    assert folders.scan()["a"].config is not None


def test_edit_changes_fingerprint_and_weights_change_files(tmp_path: Path) -> None:
    folder = add(tmp_path, "a")
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    before = folders.scan()["a"]
    (folder / "config.yml").write_text(f"module_id: {ID}\ndeployment: {{num_replicas: 2}}")
    assert folders.scan()["a"] == before, "still being written"
    after = folders.scan()["a"]
    assert after.fingerprint != before.fingerprint
    assert after.files == before.files
    (folder / "model.safetensors").write_bytes(b"weights")
    folders.scan()
    assert folders.scan()["a"].files != before.files


def test_scan_drops_a_removed_folder(tmp_path: Path) -> None:
    folder = add(tmp_path, "a")
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    folders.scan()
    shutil.rmtree(folder)
    assert folders.scan() == {}


def test_scan_reports_the_problem_of_a_folder(tmp_path: Path) -> None:
    add(tmp_path, "typo", f"module_id: {ID}\nhf_modle: x")
    add(tmp_path, "no id", f"module_id: {ID}")
    (tmp_path / "empty").mkdir()
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    problems = {id: folder.problem for id, folder in folders.scan().items()}
    assert "typo/config.yml: `hf_modle`" in problems["typo"]
    assert "no model id" in problems["no id"]
    assert "the file is missing" in problems["empty"]


def test_scan_ignores_files_and_hidden_folders(tmp_path: Path) -> None:
    add(tmp_path, ".hidden")
    (tmp_path / "README.md").write_text("hello")
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    assert folders.scan() == {}


def test_scan_keeps_its_state_without_the_root(tmp_path: Path) -> None:
    assert ModelFolderWatcher(tmp_path / "nowhere").scan() == {}
    root = tmp_path / "models"
    add(root, "a")
    folders = ModelFolderWatcher(root)
    folders.scan()
    before = folders.scan()
    root.rename(tmp_path / "elsewhere")
    assert folders.scan() == before


def test_scan_ignores_scratch_files_of_editors(tmp_path: Path) -> None:
    folder = add(tmp_path, "a")
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    before = folders.scan()["a"]
    (folder / ".config.yml.swp").write_bytes(b"vim")
    (folder / "config.yml~").write_bytes(b"emacs")
    folders.scan()
    assert folders.scan()["a"] == before


def test_scan_follows_links_without_circles(tmp_path: Path) -> None:
    folder = add(tmp_path / "models", "a", f"module_id: {ID}\nhf_model: current")
    for version in ("v1", "v2"):
        (tmp_path / "data" / version).mkdir(parents=True)
    (tmp_path / "data" / "v1" / "round").symlink_to("../v1")
    (folder / "current").symlink_to(tmp_path / "data" / "v1")
    (folder / "beside").symlink_to("..")
    folders = ModelFolderWatcher(tmp_path / "models")

    def files() -> str:
        folders.scan()
        return folders.scan()["a"].files

    first = files()
    (tmp_path / "data" / "v1" / "model.safetensors").write_bytes(b"weights")
    second = files()
    (folder / "new").symlink_to(tmp_path / "data" / "v2")
    (folder / "new").rename(folder / "current")
    third = files()
    assert len({first, second, third}) == 3
    add(tmp_path / "models", "b")
    assert files() == third, "its neighbours are no part of it"


def test_scan_reports_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if "closed" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    add(tmp_path, "closed")
    add(tmp_path, "good")
    monkeypatch.setattr(Path, "stat", refuse)
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    scanned = folders.scan()
    assert scanned["good"].config
    assert scanned["closed"].problem.endswith("closed/config.yml: cannot be read: Permission denied")


def test_scan_survives_every_kind_of_faulty_folder(tmp_path: Path) -> None:
    os.mkfifo(add(tmp_path, "fifo").parent / "fifo" / "pipe")
    (tmp_path / "fifo" / "config.yml").unlink()
    os.mkfifo(tmp_path / "fifo" / "config.yml")
    (tmp_path / "directory" / "config.yml").mkdir(parents=True)
    add(tmp_path, "huge", "#" * 100_000)
    add(tmp_path, "deep", "a: " + "[" * 5_000)
    add(tmp_path, "bomb", f"module_id: {ID}\ndeployment: {{a: &a [x], b: [*a, *a]}}")
    add(tmp_path, "date", "hf_model_revision: 2024-99-99")
    add(tmp_path, "object", "module_id: !!python/object:os.system {}")
    (add(tmp_path, "loop") / "loop").symlink_to("loop")
    os.mkdir(os.fsencode(tmp_path) + b"/bytes\xff")
    add(tmp_path, "good")
    folders = ModelFolderWatcher(tmp_path)
    folders.scan()
    scanned = folders.scan()
    assert scanned["good"].config and scanned["loop"].config
    broken = {id: folder.problem for id, folder in scanned.items() if not folder.config}
    assert len(broken) == 8
    assert all(problem and "/tmp" not in problem for problem in broken.values()), broken
    "".join(scanned).encode()
