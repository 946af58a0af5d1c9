"""LangChain's standard suites for chat models and embeddings, through its OpenAI classes.

Their tests of tools, structured output and media skip themselves: the starter model has none of them.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from tests.end_to_end.cluster import Cluster, in_modes

pytestmark = [pytest.mark.cluster, in_modes("fast")]


class _OnCluster:
    @pytest.fixture(autouse=True)
    async def _connect(self, cluster: Cluster) -> AsyncIterator[None]:
        # LangChain would share a client between event loops, and each test has its own loop.
        async with httpx.AsyncClient() as client:
            self.parameters = {"base_url": f"{cluster.url}/v1", "api_key": "any", "http_async_client": client}
            yield


class TestChatModel(_OnCluster, ChatModelIntegrationTests):
    has_tool_calling = False
    has_structured_output = False
    chat_model_class = ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "conversational", "stream_usage": True, **self.parameters}


class TestResponsesChatModel(TestChatModel):
    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 100, "use_responses_api": True}


class TestEmbeddings(_OnCluster, EmbeddingsIntegrationTests):
    embeddings_class = OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "embeddings", "check_embedding_ctx_length": False, **self.parameters}
