"""The list of models, with the openai client."""

import openai
import pytest
from openai import OpenAI

from tests.wire.openai.openai_outputs import assert_matches_schema


def test_list_models(client, router) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {*models} == {card.id for card in router.cards.values() if card.state != "unavailable"}
    assert "loading" in models
    assert models["sentiment"].to_dict() == {
        "id": "sentiment",
        "object": "model",
        "created": 0,
        "owned_by": "example",
    }
    assert models["loading"].owned_by == "roster"


def test_show_model(client, http, router) -> None:
    assert client.models.retrieve("sentiment").id == "sentiment"
    assert client.models.retrieve("loading").id == "loading"
    assert_matches_schema(http.get("/v1/models").json(), "OpenAIModels")
    assert_matches_schema(http.get("/v1/models/sentiment").json(), "OpenAIModel")
    with pytest.raises(openai.InternalServerError, match=r"models/broken/config\.yml: no") as error:
        client.models.retrieve("broken")
    assert error.value.status_code == 503


@pytest.mark.parametrize("name", ["absent", "org/absent"])
def test_unknown_model_is_not_shown(client, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="no model is named") as error:
        client.models.retrieve(name)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_models_path_lists_only_that_model(url, router) -> None:
    with OpenAI(base_url=f"{url}/models/sentiment/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["sentiment"]
        assert client.models.retrieve("other").id == "sentiment"
        assert client.models.retrieve("org/other").id == "sentiment"
    with (
        OpenAI(base_url=f"{url}/models/absent/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.models.list()
