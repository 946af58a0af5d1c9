"""The Open Inference Protocol's service and messages, compiled from docs/protos/inference.proto.

Clients have their own stubs, so the names and field numbers are those of the public .proto.
"""

from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"
STREAMING = "ModelStreamInfer"
COMPILED = Path(__file__).with_name("inference.binpb")


def message_classes(pool: DescriptorPool | None = None) -> dict[str, tuple[type[Message], type[Message]]]:
    """Add the service to `pool` (the default one); return the request and response class of each method."""
    pool = pool or Default()
    pool.AddSerializedFile(_file())
    methods = pool.FindServiceByName(SERVICE).methods
    return {
        method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in methods
    }


@cache
def _file() -> bytes:
    (file,) = FileDescriptorSet.FromString(COMPILED.read_bytes()).file
    # A pool accepts a file again only if the bytes are the same.
    serialized: bytes = file.SerializeToString(deterministic=True)
    return serialized
