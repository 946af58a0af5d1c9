"""KServe's client over HTTP and gRPC: `with_kserve.py URL GRPC_ADDRESS POSITIVE_TEXT NEGATIVE_TEXT`."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput

URL, ADDRESS, GOOD, BAD = sys.argv[1:]


def build_request(binary: bool, *outputs: str) -> InferRequest:
    texts = InferInput("text", [2], "BYTES")
    texts.set_data_from_numpy(np.array([GOOD, BAD], dtype=object), binary_data=binary)
    requested = [RequestedOutput(name, parameters={"binary_data": True}) for name in outputs]
    return InferRequest(model_name="sentiment", infer_inputs=[texts], request_outputs=requested or None)


def check(response: InferResponse) -> None:
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    first = [row[0].decode() if isinstance(row[0], bytes) else row[0] for row in outputs["labels"]]
    assert first == ["POSITIVE", "NEGATIVE"], outputs
    assert outputs["scores"].dtype == np.float32 and (outputs["scores"][:, 0] > 0.5).all(), outputs


async def over_http() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(URL) and await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "sentiment")
    check(await client.infer(URL, build_request(False, "labels", "scores"), model_name="sentiment"))
    check(await client.infer(URL, build_request(True, "labels", "scores"), model_name="sentiment"))
    failed: Exception | None = None
    try:
        await client.infer(URL, build_request(False), model_name="missing")
    except Exception as error:
        failed = error
    assert "404" in str(failed), failed


async def over_grpc() -> None:
    client = InferenceGRPCClient(ADDRESS)
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready("sentiment")
    check(await client.infer(build_request(True, "labels", "scores")))
    check(await client.infer(build_request(False, "labels", "scores")))
    await client.close()


async def main() -> None:
    await over_http()
    await over_grpc()


asyncio.run(main())
