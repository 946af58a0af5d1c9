"""Code snippets of a request that run as displayed: curl, InferenceClient, grpcurl and Python."""

import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import InferenceClient

from deployments.schema import field_types
from deployments.task import Task
from deployments.wire.caikit.predict import REQUEST_PACKAGE
from deployments.wire.caikit.types import arguments
from ui.client import request_body, task_path

LANGUAGES: dict[str, Any] = {
    "curl": "shell",
    "InferenceClient": "python",
    "Caikit gRPC": "shell",
    "Python": "python",
}
MAX_INLINE = 1_200  # characters of base64; a longer image is read from its file


@dataclass(frozen=True)
class GatewayAddress:
    """The gateway's address for callers: `http` is a URL without a trailing slash, `grpc` is host:port."""

    http: str
    grpc: str


@dataclass(frozen=True)
class InferenceRequest:
    """One request. `files` maps each image field to the name of the file on the user's machine."""

    address: GatewayAddress
    model: str
    task: Task
    item: Mapping[str, Any]
    params: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def url(self) -> str:
        """The URL of the request in the Hugging Face dialect."""
        return self.address.http + task_path(self.model, self.task)

    @property
    def long_image(self) -> tuple[str, str] | None:
        """The base64 and the file name of an image that is too long for a snippet, or None."""
        for name, type_ in field_types(self.task.input).items():
            if type_ == "image" and len(self.item.get(name, "")) > MAX_INLINE:
                return self.item[name], self.files.get(name, "image.png")
        return None

    @property
    def json_body(self) -> dict[str, Any]:
        """The JSON body of the request in the Hugging Face dialect."""
        return request_body(self.task, self.item, self.params)


def all_snippets(request: InferenceRequest) -> list[str]:
    """Return the request in each of `LANGUAGES`."""
    return [
        curl_snippet(request),
        inference_client_snippet(request),
        grpcurl_snippet(request),
        python_snippet(request),
    ]


def curl_snippet(request: InferenceRequest) -> str:
    """Return a curl command; an image without parameters is sent as a file."""
    body = _to_json(request.json_body)
    command = f"curl {shlex.quote(request.url)}"
    if not request.long_image:
        return f"{command} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    encoded, file = request.long_image
    if not request.params and len(request.item) == 1:
        return f"{command} \\\n  -H 'Content-Type: image/*' \\\n  --data-binary @{shlex.quote(file)}"
    return f"{_printf(body, encoded, file)} \\\n  | {command} -H 'Content-Type: application/json' -d @-"


def grpcurl_snippet(request: InferenceRequest) -> str:
    """Return a grpcurl command for the task's Caikit rpc, which has the required fields only."""
    fields = arguments(request.task.input)
    message = _to_json({name: _caikit_value(request, field) for name, field in fields.items()})
    missing = [*(set(request.item) - set(fields.values())), *request.params]
    note = f"# The Caikit rpc has no {', '.join(missing)}\n" if missing else ""
    rpc = f"{REQUEST_PACKAGE}.RuntimeService/{request.task.title}TaskPredict"
    command = f"grpcurl -plaintext -H {shlex.quote(f'mm-model-id: {request.model}')}"
    target = f"{request.address.grpc} {rpc}"
    if not request.long_image:
        return f"{note}{command} \\\n  -d {shlex.quote(message)} \\\n  {target}"
    return f"{note}{_printf(message, *request.long_image)} \\\n  | {command} -d @ {target}"


def inference_client_snippet(request: InferenceRequest) -> str:
    """Return code for `huggingface_hub.InferenceClient`.

    A task that streams text and has no method there uses `text_generation`.
    """
    method = request.task.pipeline_tag.replace("-", "_")
    if not hasattr(InferenceClient, method):
        if request.task.chunk is None:
            return f"# InferenceClient has no method for {request.task.pipeline_tag}: use another language"
        method = "text_generation"
    arguments_, note = _method_arguments(request, method)
    base = f"{request.address.http}/models/{request.model}"
    decode = "import base64\n\n" if any(value.startswith("base64.") for value in arguments_) else ""
    return (
        f"{decode}from huggingface_hub import InferenceClient\n\n{note}"
        f'client = InferenceClient("{base}")\nprint(client.{method}({", ".join(arguments_)}))'
    )


def _method_arguments(request: InferenceRequest, method: str) -> tuple[list[str], str]:
    """Return the arguments of the client's method, and a comment on the parameters that it lacks."""
    known = inspect.signature(getattr(InferenceClient, method)).parameters
    fields = [field for field in request.task.input.model_fields if field in request.item]
    code = [_input_code(request, field) for field in fields]
    code += [f"{name}={value!r}" for name, value in request.params.items() if name in known]
    unknown = {name: value for name, value in request.params.items() if name not in known}
    if unknown and "generate_parameters" in known:
        return [*code, f"generate_parameters={unknown!r}"], ""
    return code, f"# InferenceClient.{method} has no {', '.join(unknown)}\n" if unknown else ""


def python_snippet(request: InferenceRequest) -> str:
    """Return code that needs the standard library only."""
    body = repr(request.json_body)
    imports = "import json\nimport urllib.request\n"
    if request.long_image:
        encoded, file = request.long_image
        read = f'base64.b64encode(open({file!r}, "rb").read()).decode()'
        body, imports = body.replace(repr(encoded), read), f"import base64\n{imports}"
    return (
        f'{imports}\nbody = {body}\nrequest = urllib.request.Request(\n    "{request.url}",\n'
        '    json.dumps(body).encode(),\n    {"Content-Type": "application/json"},\n)\n'
        "print(json.load(urllib.request.urlopen(request)))"
    )


def _input_code(request: InferenceRequest, field: str) -> str:
    """Return the Python expression of an input field."""
    if field_types(request.task.input)[field] != "image":
        return repr(request.item[field])
    return repr(request.long_image[1]) if request.long_image else f"base64.b64decode({request.item[field]!r})"


def _caikit_value(request: InferenceRequest, field: str) -> Any:
    """Return a field's value for Caikit; its rpc takes only the last message of a conversation."""
    value = request.item.get(field)
    conversation = field_types(request.task.input)[field] == "conversation"
    return value[-1]["content"] if conversation and isinstance(value, list) and value else value


def _printf(text: str, encoded: str, file: str) -> str:
    """Return a shell command that prints `text` with `encoded` replaced by the file's base64."""
    before, after = text.split(encoded)
    read = f"\"$(base64 < {shlex.quote(file)} | tr -d '\\n')\""
    return f"printf %s {shlex.quote(before)}{read}{shlex.quote(after)}"


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
