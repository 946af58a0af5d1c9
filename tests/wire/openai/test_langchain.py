"""The OpenAI dialect, with LangChain's clients."""

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from deployments.errors import Overloaded
from tests.wire.openai.openai_outputs import failing, generated, set_output


def test_chat(url, router) -> None:
    set_output(router, "conversational", generated("Good", " day", "!"))
    chat = ChatOpenAI(model="conversational", base_url=f"{url}/v1", api_key="any", max_retries=0)
    message = chat.invoke("Hello!")
    assert message.content == "Good day!"
    assert message.usage_metadata["total_tokens"] == 9
    assert message.response_metadata["finish_reason"] == "stop"
    chunks = list(chat.stream([("system", "Be kind."), ("human", "Hello!")]))
    assert "".join(chunk.text for chunk in chunks) == "Good day!"
    assert [reply.content for reply in chat.batch(["Hello!", "And you?"])] == ["Good day!"] * 2


async def test_async_chat(url, router) -> None:
    set_output(router, "conversational", generated("Good", " day", "!"))
    chat = ChatOpenAI(model="conversational", base_url=f"{url}/v1", api_key="any", stream_usage=True)
    assert (await chat.ainvoke("Hello!")).content == "Good day!"
    chunks = [chunk async for chunk in chat.astream("Hello!")]
    assert "".join(chunk.text for chunk in chunks) == "Good day!"
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) == 9


def test_responses_api(url, router) -> None:
    set_output(router, "conversational", generated("Good", " day", "!"))
    chat = ChatOpenAI(model="conversational", base_url=f"{url}/v1", api_key="any", use_responses_api=True)
    assert chat.invoke([("system", "Be kind."), ("human", "Hello!")]).text == "Good day!"
    assert "".join(chunk.text for chunk in chat.stream("Hello!")) == "Good day!"


def test_errors_raise_the_openai_clients_exceptions(url, router) -> None:
    router.outputs["conversational"] = failing(Overloaded("every queue is full"))
    chat = ChatOpenAI(model="conversational", base_url=f"{url}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        chat.invoke("Hello!")
    with pytest.raises(openai.BadRequestError, match="tools"):
        chat.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}]).invoke("Hello!")


def test_completion(url, router) -> None:
    set_output(router, "text-generation", generated(" upon", " a", " time"))
    model = OpenAI(model="text-generation", base_url=f"{url}/v1", api_key="any")
    assert model.invoke("Once") == " upon a time"
    assert "".join(model.stream("Once")) == " upon a time"
    assert model.batch(["Once", "Twice"]) == [" upon a time"] * 2


def test_embeddings(url, router) -> None:
    model = OpenAIEmbeddings(
        model="embeddings", base_url=f"{url}/v1", api_key="any", check_embedding_ctx_length=False
    )
    assert model.embed_query("One") == [0.5, 0.5]
    assert model.embed_documents(["One", "Two"]) == [[0.5, 0.5]] * 2
    assert [item.text for item in router.received[-1].inputs] == ["One", "Two"]
