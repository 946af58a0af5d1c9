"""The Open Inference Protocol's messages equal the public ones, which Triton's client has compiled in."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from deployments.wire.open_inference.protos import SERVICE, STREAMING, message_classes
from deployments.wire.open_inference.rpcs import HANDLERS
from tests.wire.open_inference.triton_stubs import load_stubs

_, TRITON_POOL = load_stubs()


@pytest.fixture
def pool() -> DescriptorPool:
    pool = DescriptorPool()
    message_classes(pool)
    return pool


def descriptions(pool: Any) -> dict[str, Any]:
    """Return the pool's description of each of Roster's messages, by name."""
    own_pool = DescriptorPool()
    message_classes(own_pool)
    described = {}
    for name in own_pool.FindFileContainingSymbol(SERVICE).message_types_by_name:
        proto = DescriptorProto()
        pool.FindMessageTypeByName(f"inference.{name}").CopyToProto(proto)
        described[name] = describe(proto)
    return described


def describe(proto: DescriptorProto) -> Any:
    """Return a message's fields by number and its nested messages, independent of their order."""
    oneofs = [oneof.name for oneof in proto.oneof_decl]
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
    return fields, {inner.name: describe(inner) for inner in proto.nested_type}, proto.options.map_entry


def methods(pool: Any) -> Iterator[tuple[str, str, str, bool, bool]]:
    described = pool.FindServiceByName(SERVICE).methods_by_name
    for name in (*HANDLERS, STREAMING):
        method = described[name]
        streams = method.client_streaming, method.server_streaming
        yield name, method.input_type.full_name, method.output_type.full_name, *streams


def test_messages_equal_the_public_ones(pool: DescriptorPool) -> None:
    assert len(descriptions(pool)) == 30
    assert descriptions(pool) == descriptions(TRITON_POOL)


def test_methods_equal_the_public_ones(pool: DescriptorPool) -> None:
    assert list(methods(pool)) == list(methods(TRITON_POOL))


def test_every_method_has_a_handler(pool: DescriptorPool) -> None:
    assert {*message_classes(pool)} == {*HANDLERS, STREAMING}


def test_message_classes_can_be_added_twice(pool: DescriptorPool) -> None:
    assert message_classes(pool) == message_classes(pool)
