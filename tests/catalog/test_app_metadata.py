"""What an application is made from, and that any change of it is noticed."""

from pathlib import Path

import pytest

from deployments.catalog import app_metadata
from deployments.catalog.app_metadata import fingerprint, read_metadata
from deployments.config.yaml_file import read
from tests.catalog.test_catalog import ID, add, app


def test_fingerprint_covers_config_and_files(tmp_path: Path) -> None:
    config = read(add(tmp_path, "a"))
    other = read(add(tmp_path, "a", f"module_id: {ID}\nengine: {{dtype: bfloat16}}"))
    folder = tmp_path / "a"
    prints = {
        fingerprint(config, folder, "x"),
        fingerprint(other, folder, "x"),
        fingerprint(config, folder, "y"),
    }
    assert len(prints) == 3
    assert read_metadata(app(None)) == {}


def test_fingerprint_covers_deployment_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(add(tmp_path, "a"))
    before = fingerprint(config, None, "")
    monkeypatch.setattr(app_metadata, "options", lambda given: {"max_ongoing_requests": 1, **given})
    assert fingerprint(config, None, "") != before
