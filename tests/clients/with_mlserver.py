"""MLServer's types, codecs and gRPC converters: `with_mlserver.py URL GRPC_ADDRESS GOOD BAD PICTURE_FILE`."""

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

URL, ADDRESS, GOOD, BAD, PICTURE = sys.argv[1:]
T = TypeVar("T")


def call(path: str, answer: type[T], body: Any = None) -> T:
    data = body.model_dump_json().encode() if body is not None else None
    request = urllib.request.Request(f"{URL}/v2{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return answer.model_validate_json(response.read())


def infer(model: str, *inputs: RequestInput, outputs: tuple[str, ...] = (), **more: Any) -> InferenceResponse:
    wanted = [RequestOutput(name=name) for name in outputs] or None
    request = InferenceRequest(inputs=list(inputs), outputs=wanted, **more)
    return call(f"/models/{model}/infer", InferenceResponse, request)


def texts(use_bytes: bool = False) -> RequestInput:
    return StringCodec.encode_input("args", [GOOD, BAD], use_bytes=use_bytes)


def metadata() -> None:
    assert call("", MetadataServerResponse).name
    model = call("/models/sentiment", MetadataModelResponse)
    assert model.inputs and model.outputs
    index = call("/repository/index", RepositoryIndexResponse, RepositoryIndexRequest(ready=True))
    assert "sentiment" in {one.name for one in index.root}


def codecs() -> None:
    told = infer(
        "sentiment", texts(), NumpyCodec.encode_input("top_k", np.array([1])), outputs=("labels", "scores")
    )
    assert StringCodec.decode_output(told.outputs[0]) == ["POSITIVE", "NEGATIVE"], told
    assert (NumpyCodec.decode_output(told.outputs[1]) > 0.5).all(), told
    request = StringRequestCodec.encode_request([GOOD, BAD], use_bytes=False)
    told = call("/models/sentiment/infer", InferenceResponse, request)
    assert "POSITIVE" in StringCodec.decode_output(told.outputs[0])[0], told
    told = infer("embeddings", texts(), outputs=("embedding",))
    assert NumpyCodec.decode_output(told.outputs[0]).shape == (2, 72), told
    picture = Base64Codec.encode_input("inputs", [Path(PICTURE).read_bytes()], use_bytes=False)
    assert "square" in StringCodec.decode_output(infer("image_classification", picture).outputs[0])[0]


def hugging_face_runtime() -> None:
    """The content types of MLServer's Hugging Face runtime."""

    def of(name: str, value: str, kind: str) -> RequestInput:
        parameters = Parameters(content_type=kind)
        return RequestInput(name=name, datatype="BYTES", shape=[1, 1], data=[value], parameters=parameters)

    sentences = of("sentences", f'["{GOOD}", "{BAD}"]', "hg_jsonlist")
    told = infer(
        "sentence_similarity",
        of("source_sentence", GOOD, "str"),
        sentences,
        outputs=("similarities",),
        parameters=Parameters(content_type="hf"),
    )
    same, other = np.ravel(NumpyCodec.decode_output(told.outputs[0]))
    assert same > 0.999 > other, told


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
            told = ModelInferResponseConverter.to_types(stub.ModelInfer(message))
            assert StringCodec.decode_output(told.outputs[0])[0] == "POSITIVE", told


metadata()
codecs()
hugging_face_runtime()
over_grpc()
