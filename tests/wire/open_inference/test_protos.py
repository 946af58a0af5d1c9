"""The Open Inference Protocol's messages are the public ones, from which Triton's client was compiled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

from deployments.reference.protos import documents
from deployments.wire.open_inference.protos import METHODS, PACKAGE, SERVICE, STREAMING, describe
from deployments.wire.proto_parser import read_proto
from tests.wire.open_inference.triton_stubs import triton

_, THEIRS = triton()


@pytest.fixture
def ours() -> DescriptorPool:
    pool = DescriptorPool()
    describe(pool)
    return pool


def messages(pool: Any) -> dict[str, Any]:
    """What the pool says of each message that we have, by its name."""
    mine = DescriptorPool()
    describe(mine)
    names = mine.FindFileByName(f"{PACKAGE}.messages.proto").message_types_by_name
    told = {}
    for name in names:
        proto = DescriptorProto()
        pool.FindMessageTypeByName(f"{PACKAGE}.{name}").CopyToProto(proto)
        told[name] = facts(proto)
    return told


def facts(proto: DescriptorProto) -> Any:
    """A message's fields by number, and what is inside it; in whatever order a file has them."""
    oneofs = [one.name for one in proto.oneof_decl]
    fields = {
        field.number: (
            field.name,
            field.type,
            field.type_name,
            field.label,
            oneofs[field.oneof_index] if field.HasField("oneof_index") else None,
        )
        for field in proto.field
    }
    return fields, {inner.name: facts(inner) for inner in proto.nested_type}, proto.options.map_entry


def methods(pool: Any) -> Iterator[tuple[str, str, str, bool, bool]]:
    described = pool.FindServiceByName(SERVICE).methods_by_name
    for name in (*METHODS, STREAMING):
        one = described[name]
        streams = one.client_streaming, one.server_streaming
        yield name, one.input_type.full_name, one.output_type.full_name, *streams


def test_messages_are_the_public_ones(ours: DescriptorPool) -> None:
    told = messages(ours)
    assert len(told) == 30
    assert told == messages(THEIRS)


def test_methods_are_the_public_ones(ours: DescriptorPool) -> None:
    assert list(methods(ours)) == list(methods(THEIRS))


def test_the_written_proto_says_the_same(ours: DescriptorPool, tmp_path: Path) -> None:
    (tmp_path / "inference.proto").write_text(documents([SERVICE], ours)["inference.proto"])
    made = tmp_path / "made"
    assert protoc.main(["", f"-I{tmp_path}", f"--descriptor_set_out={made}", "inference.proto"]) == 0
    (file,) = FileDescriptorSet.FromString(made.read_bytes()).file
    assert {one.name: facts(one) for one in file.message_type} == messages(ours)


def test_they_can_be_described_again(ours: DescriptorPool) -> None:
    assert describe(ours) == describe(ours)


def test_a_line_that_is_no_proto() -> None:
    with pytest.raises(ValueError, match="no field: 'string name'"):
        read_proto("a.proto", "a", "message A {\n  string name\n}")
