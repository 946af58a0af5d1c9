"""A field that Roster does not read is refused if it would change the answer, on every route."""

from typing import Any

import pytest

from deployments.task import TASKS

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "conversational", "messages": [{"role": "user", "content": "Hello!"}]},
    "/v1/completions": {"model": "text-generation", "prompt": "Once"},
    "/v1/responses": {"model": "conversational", "input": "Hello!"},
    "/v1/embeddings": {"model": "embeddings", "input": "One"},
    "/v1/rerank": {"model": "sentence-similarity", "query": "One", "documents": ["Two"]},
    "/v1/score": {"model": "sentence-similarity", "text_1": "One", "text_2": "Two"},
    "/v1/moderations": {"model": "sentiment", "input": "One"},
}
CHANGES = {
    "guided_choice": ["yes", "no"], "guided_json": {"type": "object"}, "bad_words": ["a"],
    "min_tokens": 30, "min_p": 0.1, "ignore_eos": True, "prompt_logprobs": 1, "continue_final_message": True,
    "add_generation_prompt": False, "chat_template_kwargs": {"enable_thinking": False},
    "structured_outputs": {"choice": ["a"]},
    "skip_special_tokens": False, "logits_processors": ["x"], "truncate_prompt_tokens": 3, "colour": "red",
    "include": ["message.output_text.logprobs"],
}  # fmt: skip
NEUTRAL = {
    "user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "safety_identifier": "x",
    "guided_choice": None, "min_tokens": 0, "ignore_eos": False, "skip_special_tokens": True, "bad_words": [],
    "add_generation_prompt": True, "chat_template_kwargs": {}, "include": [],
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("path", BODIES)
def test_field_that_changes_the_answer_is_refused_by_name(http, router, path: str, name: str) -> None:
    response = http.post(path, json={**BODIES[path], name: CHANGES[name]})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(name)
    assert name in response.json()["error"]["message"] and not router.received


@pytest.mark.parametrize("path", BODIES)
def test_field_without_effect_is_accepted(http, router, path: str) -> None:
    similarity = TASKS["sentence-similarity"]
    router.outputs[similarity.name] = lambda _: similarity.output(similarities=[0.5])
    response = http.post(path, json={**BODIES[path], **NEUTRAL})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", ["response_format", "tools", "logit_bias", "functions"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_routes_that_generate_refuse_the_same(http, path: str, name: str) -> None:
    value = {"type": "json_object"} if name == "response_format" else {"a": 1}
    response = http.post(path, json={**BODIES[path], name: value})
    assert response.status_code == 400 and response.json()["error"]["param"].startswith(name), response.text
    text = http.post(path, json={**BODIES[path], "response_format": {"type": "text"}})
    assert text.status_code == 200, text.text


@pytest.mark.parametrize(("path", "field", "body"), [
    ("/v1/chat/completions", "messages[1].prefix",
     {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "prefix": True}]}),
    ("/v1/chat/completions", "messages[0].content[0].image",
     {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "image": "x"}]}]}),
    ("/v1/chat/completions", "response_format.strict", {"response_format": {"type": "text", "strict": True}}),
    ("/v1/responses", "name", {"name": "anna"}),
    ("/v1/responses", "text.verbosity", {"text": {"format": {"type": "text"}, "verbosity": "low"}}),
])  # fmt: skip
def test_field_of_an_inner_object_is_refused_by_its_path(
    http, router, path: str, field: str, body: dict[str, Any]
) -> None:
    response = http.post(path, json={**BODIES[path], **body})
    assert (response.status_code, response.json()["error"]["param"]) == (400, field), response.text
    assert not router.received


def test_earlier_answer_is_accepted_as_it_was_received(http) -> None:
    answer = {"role": "assistant", "content": "Good day!", "refusal": None, "annotations": [], "audio": None}
    turns = [{"role": "user", "content": "Hi", "name": "anna"}, answer, {"role": "user", "content": "And?"}]
    body = {"model": "conversational", "messages": turns}
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    first = http.post("/v1/responses", json=BODIES["/v1/responses"]).json()
    turns = [{"role": "user", "content": "Hi"}, *first["output"], {"role": "user", "content": "And?"}]
    again = http.post("/v1/responses", json={"model": "conversational", "input": turns})
    assert again.status_code == 200, again.text
