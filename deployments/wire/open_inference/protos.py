"""The Open Inference Protocol's protobuf messages: its public .proto, as far as it is spoken here.

Clients bring stubs of their own, so names and numbers are not ours to choose; a test compares them with those
of a client's.
"""

from functools import cache

from google.protobuf import message_factory
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import Message

from deployments.wire import protobuf
from deployments.wire.proto_parser import read_proto

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
STREAMING = "ModelStreamInfer"

MESSAGES = """
message ServerLiveRequest {
}
message ServerLiveResponse {
  bool live = 1;
}
message ServerReadyRequest {
}
message ServerReadyResponse {
  bool ready = 1;
}
message ModelReadyRequest {
  string name = 1;
  string version = 2;
}
message ModelReadyResponse {
  bool ready = 1;
}
message ServerMetadataRequest {
}
message ServerMetadataResponse {
  string name = 1;
  string version = 2;
  repeated string extensions = 3;
}
message ModelMetadataRequest {
  string name = 1;
  string version = 2;
}
message ModelMetadataResponse {
  message TensorMetadata {
    string name = 1;
    string datatype = 2;
    repeated int64 shape = 3;
  }
  string name = 1;
  repeated string versions = 2;
  string platform = 3;
  repeated ModelMetadataResponse.TensorMetadata inputs = 4;
  repeated ModelMetadataResponse.TensorMetadata outputs = 5;
}
message InferParameter {
  oneof parameter_choice {
    bool bool_param = 1;
    int64 int64_param = 2;
    string string_param = 3;
    double double_param = 4;
    uint64 uint64_param = 5;
  }
}
message InferTensorContents {
  repeated bool bool_contents = 1;
  repeated int32 int_contents = 2;
  repeated int64 int64_contents = 3;
  repeated uint32 uint_contents = 4;
  repeated uint64 uint64_contents = 5;
  repeated float fp32_contents = 6;
  repeated double fp64_contents = 7;
  repeated bytes bytes_contents = 8;
}
message ModelInferRequest {
  message InferInputTensor {
    string name = 1;
    string datatype = 2;
    repeated int64 shape = 3;
    map<string, InferParameter> parameters = 4;
    InferTensorContents contents = 5;
  }
  message InferRequestedOutputTensor {
    string name = 1;
    map<string, InferParameter> parameters = 2;
  }
  string model_name = 1;
  string model_version = 2;
  string id = 3;
  map<string, InferParameter> parameters = 4;
  repeated ModelInferRequest.InferInputTensor inputs = 5;
  repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6;
  repeated bytes raw_input_contents = 7;
}
message ModelInferResponse {
  message InferOutputTensor {
    string name = 1;
    string datatype = 2;
    repeated int64 shape = 3;
    map<string, InferParameter> parameters = 4;
    InferTensorContents contents = 5;
  }
  string model_name = 1;
  string model_version = 2;
  string id = 3;
  map<string, InferParameter> parameters = 4;
  repeated ModelInferResponse.InferOutputTensor outputs = 5;
  repeated bytes raw_output_contents = 6;
}
message ModelStatisticsRequest {
  string name = 1;
  string version = 2;
}
message StatisticDuration {
  uint64 count = 1;
  uint64 ns = 2;
}
message InferStatistics {
  StatisticDuration success = 1;
  StatisticDuration fail = 2;
  StatisticDuration queue = 3;
  StatisticDuration compute_input = 4;
  StatisticDuration compute_infer = 5;
  StatisticDuration compute_output = 6;
  StatisticDuration cache_hit = 7;
  StatisticDuration cache_miss = 8;
}
message InferResponseStatistics {
  StatisticDuration compute_infer = 1;
  StatisticDuration compute_output = 2;
  StatisticDuration success = 3;
  StatisticDuration fail = 4;
  StatisticDuration empty_response = 5;
  StatisticDuration cancel = 6;
}
message InferBatchStatistics {
  uint64 batch_size = 1;
  StatisticDuration compute_input = 2;
  StatisticDuration compute_infer = 3;
  StatisticDuration compute_output = 4;
}
message MemoryUsage {
  string type = 1;
  int64 id = 2;
  uint64 byte_size = 3;
}
message ModelStatistics {
  string name = 1;
  string version = 2;
  uint64 last_inference = 3;
  uint64 inference_count = 4;
  uint64 execution_count = 5;
  InferStatistics inference_stats = 6;
  repeated InferBatchStatistics batch_stats = 7;
  repeated MemoryUsage memory_usage = 8;
  map<string, InferResponseStatistics> response_stats = 9;
}
message ModelStatisticsResponse {
  repeated ModelStatistics model_stats = 1;
}
message ModelRepositoryParameter {
  oneof parameter_choice {
    bool bool_param = 1;
    int64 int64_param = 2;
    string string_param = 3;
    bytes bytes_param = 4;
  }
}
message RepositoryIndexRequest {
  string repository_name = 1;
  bool ready = 2;
}
message RepositoryIndexResponse {
  message ModelIndex {
    string name = 1;
    string version = 2;
    string state = 3;
    string reason = 4;
  }
  repeated RepositoryIndexResponse.ModelIndex models = 1;
}
message RepositoryModelLoadRequest {
  string repository_name = 1;
  string model_name = 2;
  map<string, ModelRepositoryParameter> parameters = 3;
}
message RepositoryModelLoadResponse {
}
message RepositoryModelUnloadRequest {
  string repository_name = 1;
  string model_name = 2;
  map<string, ModelRepositoryParameter> parameters = 3;
}
message RepositoryModelUnloadResponse {
}
message ModelStreamInferResponse {
  string error_message = 1;
  ModelInferResponse infer_response = 2;
}
"""


def describe(pool: DescriptorPool | None = None) -> dict[str, tuple[type[Message], type[Message]]]:
    """Each method's request and answer, the service described in `pool` (the default one)."""
    pool = pool or Default()
    # Serialized alike each time, so that the pool takes it again without a word.
    pool.AddSerializedFile(_file())
    pairs = {name: (_class(pool, f"{name}Request"), _class(pool, f"{name}Response")) for name in METHODS}
    pairs[STREAMING] = pairs["ModelInfer"][0], _class(pool, f"{STREAMING}Response")
    protobuf.service(SERVICE, pairs, pool, streaming=(STREAMING,))
    return pairs


def _class(pool: DescriptorPool, name: str) -> type[Message]:
    kind: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return kind


@cache
def _file() -> bytes:
    file = read_proto(f"{PACKAGE}.messages.proto", PACKAGE, MESSAGES)
    serialized: bytes = file.SerializeToString(deterministic=True)
    return serialized
