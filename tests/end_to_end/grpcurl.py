"""Call an rpc as `grpcurl -plaintext -H "name: value" -d JSON address method` does: by reflection, in JSON.

No package that the tests can install contains grpcurl itself.
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
arguments = parser.parse_args()

service, _, name = arguments.symbol.rpartition("/")
with grpc.insecure_channel(arguments.address) as channel:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(service).methods_by_name[name]
    request, response = (
        message_factory.GetMessageClass(message_type)
        for message_type in (method.input_type, method.output_type)
    )
    data = sys.stdin.read() if arguments.data == "@" else arguments.data
    call = channel.unary_unary(f"/{arguments.symbol}", request.SerializeToString, response.FromString)
    metadata = [tuple(part.strip() for part in header.split(":", 1)) for header in arguments.headers]
    print(json_format.MessageToJson(call(json_format.Parse(data, request()), metadata=metadata)))
