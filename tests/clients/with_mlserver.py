"""MLServer's types, codecs and gRPC converters: `with_mlserver.py URL GRPC_ADDRESS GOOD BAD IMAGE_FILE`."""

import sys
import urllib.request
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec, StringRequestCodec
from mlserver.grpc import dataplane_pb2, dataplane_pb2_grpc
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    Parameters,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RequestInput,
    RequestOutput,
)

URL, ADDRESS, GOOD, BAD, IMAGE = sys.argv[1:]
T = TypeVar("T")


def call(path: str, response_type: type[T], body: Any = None) -> T:
    data = body.model_dump_json().encode() if body is not None else None
    request = urllib.request.Request(f"{URL}/v2{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response_type.model_validate_json(response.read())


def infer(model: str, *inputs: RequestInput, outputs: tuple[str, ...] = (), **more: Any) -> InferenceResponse:
    requested = [RequestOutput(name=name) for name in outputs] or None
    request = InferenceRequest(inputs=list(inputs), outputs=requested, **more)
    return call(f"/models/{model}/infer", InferenceResponse, request)


def texts(use_bytes: bool = False) -> RequestInput:
    return StringCodec.encode_input("args", [GOOD, BAD], use_bytes=use_bytes)


def metadata() -> None:
    assert call("", MetadataServerResponse).name
    model = call("/models/sentiment", MetadataModelResponse)
    assert model.inputs and model.outputs
    index = call("/repository/index", RepositoryIndexResponse, RepositoryIndexRequest(ready=True))
    assert "sentiment" in {model.name for model in index.root}


def codecs() -> None:
    response = infer(
        "sentiment", texts(), NumpyCodec.encode_input("top_k", np.array([1])), outputs=("labels", "scores")
    )
    assert StringCodec.decode_output(response.outputs[0]) == ["POSITIVE", "NEGATIVE"], response
    assert (NumpyCodec.decode_output(response.outputs[1]) > 0.5).all(), response
    request = StringRequestCodec.encode_request([GOOD, BAD], use_bytes=False)
    response = call("/models/sentiment/infer", InferenceResponse, request)
    assert "POSITIVE" in StringCodec.decode_output(response.outputs[0])[0], response
    response = infer("embeddings", texts(), outputs=("embedding",))
    assert NumpyCodec.decode_output(response.outputs[0]).shape == (2, 72), response
    image = Base64Codec.encode_input("inputs", [Path(IMAGE).read_bytes()], use_bytes=False)
    assert "square" in StringCodec.decode_output(infer("image_classification", image).outputs[0])[0]


def hugging_face_runtime() -> None:
    """Send the content types of MLServer's Hugging Face runtime."""

    def string_input(name: str, value: str, content_type: str) -> RequestInput:
        parameters = Parameters(content_type=content_type)
        return RequestInput(name=name, datatype="BYTES", shape=[1, 1], data=[value], parameters=parameters)

    sentences = string_input("sentences", f'["{GOOD}", "{BAD}"]', "hg_jsonlist")
    response = infer(
        "sentence_similarity",
        string_input("source_sentence", GOOD, "str"),
        sentences,
        outputs=("similarities",),
        parameters=Parameters(content_type="hf"),
    )
    same, other = np.ravel(NumpyCodec.decode_output(response.outputs[0]))
    assert same > 0.999 > other, response


def over_grpc() -> None:
    with grpc.insecure_channel(ADDRESS) as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(dataplane_pb2.ServerLiveRequest()).live
        assert stub.ModelReady(dataplane_pb2.ModelReadyRequest(name="sentiment")).ready
        index = stub.RepositoryIndex(dataplane_pb2.RepositoryIndexRequest(ready=True))
        assert "sentiment" in {model.name for model in index.models}
        for raw in (False, True):
            request = InferenceRequest(inputs=[texts(use_bytes=True)], outputs=[RequestOutput(name="labels")])
            message = ModelInferRequestConverter.from_types(
                request, model_name="sentiment", model_version=None, use_raw=raw
            )
            response = ModelInferResponseConverter.to_types(stub.ModelInfer(message))
            assert StringCodec.decode_output(response.outputs[0])[0] == "POSITIVE", response


metadata()
codecs()
hugging_face_runtime()
over_grpc()
