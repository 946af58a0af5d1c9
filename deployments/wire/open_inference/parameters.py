"""The parameters of requests, of their tensors and of the outputs that they request.

The parameters of a request are those of the task, and those of the protocol and its servers.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deployments.task import TASKS, Task
from deployments.wire.request_fields import RequestObject, task_params

# MLServer's content types
PLAIN = (None, "str", "raw", "np", "nplist")
BASE64 = ("base64", "pillow_image")
JSON = ("hg_json", "hg_jsonlist")
REQUEST_PLAIN = (None, "str", "hf")

IGNORED_PARAMETERS = frozenset(
    {
        "headers",  # MLServer's copy of the HTTP headers
        *("priority", "timeout"),  # of Triton's scheduler
        *("sequence_id", "sequence_start", "sequence_end"),  # no model here keeps a state
        "triton_enable_empty_final_response",  # read by the stream, where it has an effect
    }
)
"""Parameters of a request that are accepted with any value: they do not change the answer."""
IGNORED_TENSOR_PARAMETERS = frozenset({"headers"})
PROTOCOL_PARAMETERS = {"content_type", "binary_data_output"}
"""Parameters of a request that the protocol reads."""
GENERATE_IGNORED = IGNORED_PARAMETERS | {"stream"}  # the path decides whether the response is a stream
GENERATE_NEUTRAL: Mapping[str, Any] = {
    "beam_width": 1,
    "exclude_input_in_output": True,
    "num_return_sequences": 1,
    "return_context_logits": False,
    "return_generation_logits": False,
    "return_log_probs": False,
}
"""Triton's parameters of generation, with the value that changes nothing."""


def _describe_names(schema: dict[str, Any]) -> None:
    """Restrict the names in a JSON schema to the protocol's and those of any task."""
    of_tasks = {name for task in TASKS.values() for name in task.params.model_fields}
    schema["propertyNames"] = {"enum": sorted({*PROTOCOL_PARAMETERS, *IGNORED_PARAMETERS, *of_tasks})}


class RequestParameters(BaseModel):
    """Parameters of the protocol; all others are those of the model's task, which its metadata lists."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_describe_names)

    content_type: str | None = Field(None, json_schema_extra={"enum": [*REQUEST_PLAIN]})
    binary_data_output: bool | None = Field(
        None, strict=True, description="Return all outputs in binary, over HTTP."
    )


class InputParameters(RequestObject):
    """Parameters of an input tensor."""

    ignored_fields = IGNORED_TENSOR_PARAMETERS

    content_type: str | None = Field(None, json_schema_extra={"enum": [*PLAIN, *BASE64, *JSON]})
    binary_data_size: int | None = Field(
        None, ge=0, strict=True, description="The number of bytes of the tensor after the JSON."
    )


class OutputParameters(RequestObject):
    """Parameters of a requested output."""

    ignored_fields = IGNORED_TENSOR_PARAMETERS

    content_type: str | None = Field(None, description="The content type that the output has anyway.")
    binary_data: bool | None = Field(
        None, strict=True, description="Return this output in binary, over HTTP."
    )
    classification: int | None = Field(
        None, ge=1, strict=True, description="Return this many of the best classes in place of the output."
    )


def given(parameters: BaseModel | None) -> dict[str, Any]:
    """Return the parameters that are not null."""
    return {} if parameters is None else parameters.model_dump(exclude_none=True)


def infer_params(task: Task, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request for inference that the task must validate."""
    others = {name: value for name, value in parameters.items() if name not in PROTOCOL_PARAMETERS}
    return task_params(others, task.params.model_fields, IGNORED_PARAMETERS)


def generate_params(task: Task, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request to continue a text that the task must validate."""
    return task_params(parameters, task.params.model_fields, GENERATE_IGNORED, GENERATE_NEUTRAL)
