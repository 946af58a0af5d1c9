"""The Open Inference Protocol's messages are the public ones, from which Triton's client was compiled."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from deployments.wire.open_inference.protos import SERVICE, STREAMING, message_classes
from deployments.wire.open_inference.rpcs import HANDLERS
from tests.wire.open_inference.triton_stubs import triton

_, THEIRS = triton()


@pytest.fixture
def ours() -> DescriptorPool:
    pool = DescriptorPool()
    message_classes(pool)
    return pool


def messages(pool: Any) -> dict[str, Any]:
    """What the pool says of each message that we have, by its name."""
    mine = DescriptorPool()
    message_classes(mine)
    found = {}
    for name in mine.FindFileContainingSymbol(SERVICE).message_types_by_name:
        proto = DescriptorProto()
        pool.FindMessageTypeByName(f"inference.{name}").CopyToProto(proto)
        found[name] = facts(proto)
    return found


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
    message_classesd = pool.FindServiceByName(SERVICE).methods_by_name
    for name in (*HANDLERS, STREAMING):
        method = message_classesd[name]
        streams = method.client_streaming, method.server_streaming
        yield name, method.input_type.full_name, method.output_type.full_name, *streams


def test_messages_are_the_public_ones(ours: DescriptorPool) -> None:
    assert len(messages(ours)) == 30
    assert messages(ours) == messages(THEIRS)


def test_methods_are_the_public_ones(ours: DescriptorPool) -> None:
    assert list(methods(ours)) == list(methods(THEIRS))


def test_every_method_has_a_handler(ours: DescriptorPool) -> None:
    assert {*message_classes(ours)} == {*HANDLERS, STREAMING}


def test_they_can_be_message_classesd_again(ours: DescriptorPool) -> None:
    assert message_classes(ours) == message_classes(ours)
