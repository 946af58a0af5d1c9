"""The two builders that a Serve config names."""

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.app import build, build_model
from deployments.catalog.app_metadata import METADATA_KEY
from deployments.config.errors import ConfigError

SENTIMENT = "FADC770C-25C8-4685-A176-51FF67B382C1"


def deployment(application: Any) -> Any:
    return application._bound_deployment


@pytest.mark.parametrize("ui", [True, False])
def test_gateway_has_the_ui_only_if_enabled(ui: bool) -> None:
    router = deployment(build({"ui": ui, "timeout_s": 5, "allowed_origins": ["http://localhost:3000"]}))
    catalog, pages, *others = router.init_args
    assert (router.name, deployment(catalog).name) == ("Router", "Catalog")
    assert (pages is not None) == ui
    assert others == [[], ["http://localhost:3000"], 5.0, None, "channel"]


def test_unknown_gateway_argument_is_refused() -> None:
    with pytest.raises(ValidationError, match="warm_wokers"):
        build({"warm_wokers": 2})


def test_model_declared_by_hand_has_no_folder() -> None:
    model = deployment(build_model({"module_id": SENTIMENT, "hf_model": "org/name"}))
    mark = model.user_config[METADATA_KEY]
    assert (mark["module_id"], mark["model"], mark["folder"]) == (SENTIMENT, "org/name", None)


def test_a_model_declared_by_hand_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="args"):
        build_model({"module_id": SENTIMENT, "hf_modl": "org/name"})
