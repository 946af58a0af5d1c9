"""The same request as code that runs as it is shown, in the ways that people call a model."""

import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import InferenceClient

from deployments.schema import words
from deployments.task import Task
from deployments.wire.caikit.predict import REQUESTS
from deployments.wire.caikit.types import arguments
from ui.client import body, path

LANGUAGES: dict[str, Any] = {
    "curl": "shell",
    "InferenceClient": "python",
    "Caikit gRPC": "shell",
    "Python": "python",
}
INLINE = 1_200  # base64 longer than this is read from the file instead


@dataclass(frozen=True)
class Door:
    """Where callers reach the router: `http` without a slash at the end, `grpc` as host:port."""

    http: str
    grpc: str


@dataclass(frozen=True)
class Asked:
    """One request. `files` names the file behind each picture, as the caller knows it."""

    door: Door
    model: str
    task: Task
    item: Mapping[str, Any]
    params: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.door.http + path(self.model, self.task)

    @property
    def file(self) -> tuple[str, str] | None:
        """The picture that is too long to be written out: its base64, and its file's name."""
        pictures = [name for name, word in words(self.task.input).items() if word == "image"]
        longs = [name for name in pictures if len(self.item.get(name, "")) > INLINE]
        return (self.item[longs[0]], self.files.get(longs[0], "picture.png")) if longs else None


def write(asked: Asked) -> list[str]:
    """The request in each of `LANGUAGES`."""
    return [curl(asked), inference_client(asked), grpcurl(asked), python(asked)]


def curl(asked: Asked) -> str:
    told = _json(body(asked.task, asked.item, asked.params))
    target = f"curl {shlex.quote(asked.url)}"
    if not asked.file:
        return f"{target} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(told)}"
    encoded, name = asked.file
    if not asked.params and len(asked.item) == 1:
        return f"{target} \\\n  -H 'Content-Type: image/*' \\\n  --data-binary @{shlex.quote(name)}"
    return f"{_piped(told, encoded, name)} \\\n  | {target} -H 'Content-Type: application/json' -d @-"


def grpcurl(asked: Asked) -> str:
    """Caikit's rpc, which takes the required fields alone."""
    given = {name: _caikit(asked, field) for name, field in arguments(asked.task.input).items()}
    left = [*(set(asked.item) - set(arguments(asked.task.input).values())), *asked.params]
    note = f"# Caikit's call has no {', '.join(left)}\n" if left else ""
    rpc = f"{REQUESTS}.RuntimeService/{asked.task.title}TaskPredict"
    head = f"grpcurl -plaintext -H {shlex.quote(f'mm-model-id: {asked.model}')}"
    tail = f"{asked.door.grpc} {rpc}"
    if not asked.file:
        return f"{note}{head} \\\n  -d {shlex.quote(_json(given))} \\\n  {tail}"
    return f"{note}{_piped(_json(given), *asked.file)} \\\n  | {head} -d @ {tail}"


def inference_client(asked: Asked) -> str:
    """`huggingface_hub`'s client; where it has no method for the task, text goes by its text generation."""
    name = asked.task.pipeline_tag.replace("-", "_")
    if not hasattr(InferenceClient, name):
        if asked.task.chunk is None:
            return f"# InferenceClient has no method for {asked.task.pipeline_tag}: use one of the others"
        name = "text_generation"
    known = inspect.signature(getattr(InferenceClient, name)).parameters
    values = [_argument(asked, field) for field in asked.task.input.model_fields if field in asked.item]
    values += [f"{param}={value!r}" for param, value in asked.params.items() if param in known]
    rest = {param: value for param, value in asked.params.items() if param not in known}
    if rest and "generate_parameters" in known:
        values.append(f"generate_parameters={rest!r}")
        rest = {}
    note = f"# InferenceClient has no {', '.join(rest)} here\n" if rest else ""
    base = f"{asked.door.http}/models/{asked.model}"
    decode = "import base64\n\n" if any(value.startswith("base64.") for value in values) else ""
    return (
        f"{decode}from huggingface_hub import InferenceClient\n\n{note}"
        f'client = InferenceClient("{base}")\nprint(client.{name}({", ".join(values)}))'
    )


def python(asked: Asked) -> str:
    """The standard library alone."""
    told = repr(body(asked.task, asked.item, asked.params))
    imports = "import json\nimport urllib.request\n"
    if asked.file:
        encoded, name = asked.file
        read = f'base64.b64encode(open({name!r}, "rb").read()).decode()'
        told, imports = told.replace(repr(encoded), read), f"import base64\n{imports}"
    return (
        f'{imports}\nbody = {told}\nrequest = urllib.request.Request(\n    "{asked.url}",\n'
        '    json.dumps(body).encode(),\n    {"Content-Type": "application/json"},\n)\n'
        "print(json.load(urllib.request.urlopen(request)))"
    )


def _argument(asked: Asked, field: str) -> str:
    if words(asked.task.input)[field] != "image":
        return repr(asked.item[field])
    return repr(asked.file[1]) if asked.file else f"base64.b64decode({asked.item[field]!r})"


def _caikit(asked: Asked, field: str) -> Any:
    """A field's value as Caikit takes it: of a conversation, what was said last."""
    value = asked.item.get(field)
    talk = words(asked.task.input)[field] == "conversation"
    return value[-1]["content"] if talk and isinstance(value, list) and value else value


def _piped(told: str, encoded: str, name: str) -> str:
    """A command that prints `told`, the file's base64 put in where it stands."""
    before, after = told.split(encoded)
    read = f"\"$(base64 < {shlex.quote(name)} | tr -d '\\n')\""
    return f"printf %s {shlex.quote(before)}{read}{shlex.quote(after)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
