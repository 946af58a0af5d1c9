"""LangChain's class for Text Embeddings Inference: `with_langchain.py URL TEXT`; prints the text's vector."""

import asyncio
import json
import sys

from langchain_huggingface import HuggingFaceEndpointEmbeddings

URL, TEXT = sys.argv[1:]

embedder = HuggingFaceEndpointEmbeddings(model=URL, huggingfacehub_api_token="none")
vector, same, other = embedder.embed_documents([TEXT, TEXT, "something else"])
assert vector == same != other
assert asyncio.run(embedder.aembed_documents([TEXT])) == [embedder.embed_query(TEXT)]
print(json.dumps(vector))
