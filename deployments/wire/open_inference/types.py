"""Schemas of the Open Inference Protocol's JSON."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StrictInt

from deployments.schema import TEXT_LIMITS
from deployments.wire.open_inference.parameters import InputParameters, OutputParameters, RequestParameters
from deployments.wire.open_inference.tensors import DATATYPES, MAX_ELEMENTS, MAX_RANK
from deployments.wire.request_fields import RequestObject

MAX_TENSORS = 100
VERSION = "1"
"""The only version of every model."""

IGNORED_FIELDS = frozenset({"model_name"})
"""Fields of a request for inference that change no answer: KServe's client repeats the path's model."""

Parameters = dict[str, Any]
UNLOAD_PARAMETERS: dict[str, Any] = {"properties": {"unload_dependents": {}}, "additionalProperties": False}
Size = Annotated[StrictInt, Field(json_schema_extra={"minimum": 0, "maximum": MAX_ELEMENTS})]
Datatype = Literal[DATATYPES]  # type: ignore[valid-type]


class Wire(BaseModel):
    """A value of the protocol."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class InferInput(RequestObject):
    """A named tensor; its `data` may be nested, or follow the JSON in binary."""

    name: str
    shape: Annotated[list[Size], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_RANK})]
    datatype: Datatype
    parameters: InputParameters | None = None
    data: Annotated[list[Any], Field(json_schema_extra={"maxItems": MAX_ELEMENTS})] | None = None


class InferRequestedOutput(RequestObject):
    """A tensor that the response must hold."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(RequestObject):
    """Input tensors: row n of each is item n. `parameters` are those of the task and the protocol."""

    ignored_fields = IGNORED_FIELDS

    id: str | None = None
    parameters: RequestParameters | None = None
    inputs: Annotated[list[InferInput], Field(max_length=MAX_TENSORS, json_schema_extra={"minItems": 1})]
    outputs: Annotated[list[InferRequestedOutput], Field(max_length=MAX_TENSORS)] | None = None


class InferOutput(Wire):
    """A named tensor; its `data` is flat, or follows the JSON in binary."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters
    data: list[Any] | None = None


class InferResponse(Wire):
    """Output tensors."""

    model_name: str
    model_version: str = VERSION
    id: str | None = None
    outputs: list[InferOutput]


class GenerateRequest(Wire):
    """A text to continue. Other fields are parameters of the task, like those in `parameters`."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    text_input: Annotated[str, Field(json_schema_extra=TEXT_LIMITS)]
    parameters: Parameters | None = None


class GenerateResponse(Wire):
    """Generated text: all of it, or the new part in a stream."""

    model_name: str
    model_version: str = VERSION
    text_output: str


class LoadRequest(RequestObject):
    """A model's folder sets its configuration: no parameter can change it."""

    parameters: (
        Annotated[Parameters, Field(json_schema_extra={"additionalProperties": {"type": "null"}})] | None
    ) = None


class UnloadRequest(RequestObject):
    """`unload_dependents` has no effect: no model here has any."""

    parameters: Annotated[Parameters, Field(json_schema_extra=UNLOAD_PARAMETERS)] | None = None


class IndexRequest(RequestObject):
    ready: bool = False


class Live(Wire):
    live: bool = True


class Ready(Wire):
    ready: bool = True


class ModelReady(Ready):
    name: str


class ModelNames(Wire):
    models: list[str]


class ServerMetadata(Wire):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Wire):
    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(Wire):
    """A model's tensors; `parameters` describes each parameter of its task."""

    name: str
    versions: list[str] = [VERSION]
    platform: str = "roster_transformers"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


class IndexedModel(Wire):
    name: str
    version: str = VERSION
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class RepositoryIndex(RootModel[list[IndexedModel]]):
    """All models, in any state."""


class Nothing(Wire):
    pass


class Duration(Wire):
    count: int = 0
    ns: int = 0


class InferStatistics(Wire):
    """Durations of inference; those that Roster does not measure are zero."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration = Duration()
    compute_infer: Duration
    compute_output: Duration = Duration()
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()


class ModelStatistics(Wire):
    """A model's totals since its Routers started; `last_inference` is in milliseconds since 1970."""

    name: str
    version: str = VERSION
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: list[Parameters] = []
    memory_usage: list[Parameters] = []


class Statistics(Wire):
    model_stats: list[ModelStatistics]
