"""What `grpcurl -plaintext -H "name: value" -d JSON address method` does: by reflection, JSON both ways.

No package that the tests can install brings the program itself.
"""

import argparse
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

parser = argparse.ArgumentParser()
parser.add_argument("-plaintext", action="store_true", required=True)
parser.add_argument("-H", action="append", default=[], dest="headers")
parser.add_argument("-d", default="", dest="data")
parser.add_argument("address")
parser.add_argument("symbol")
given = parser.parse_args()

service, _, name = given.symbol.rpartition("/")
with grpc.insecure_channel(given.address) as channel:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(service).methods_by_name[name]
    request, answer = (
        message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)
    )
    data = sys.stdin.read() if given.data == "@" else given.data
    call = channel.unary_unary(f"/{given.symbol}", request.SerializeToString, answer.FromString)
    metadata = [tuple(part.strip() for part in header.split(":", 1)) for header in given.headers]
    print(json_format.MessageToJson(call(json_format.Parse(data, request()), metadata=metadata)))
