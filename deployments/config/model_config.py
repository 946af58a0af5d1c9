"""What a model's `config.yml` may say; every error names the file and the field."""

import difflib
import inspect
import os
from datetime import date
from math import isfinite
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

import deployments.tasks  # noqa: F401  (registers the modules that a config may name)
from deployments.engines.checkpoint import Checkpoint
from deployments.engines.torch.prepacked_linear import prepack
from deployments.limits import Batching
from deployments.task import MODULES, Module

CONFIG = "config.yml"
MAX_CONFIG = 64 * 1024
OURS = {"name", "version", "user_config", "func_or_class"}  # what Roster itself sets on a model's deployment
READ_AS_TEXT = {"hf_model", "hf_model_revision", "hf_revision"}
NULL, STRING = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines can stand for millions, and with names as they are written.

    A revision may be all digits, and YAML takes 0123456 for the number 42798.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (`*name`) are not accepted")
        node = super().compose_node(parent, index)
        named = isinstance(index, yaml.ScalarNode) and index.value in READ_AS_TEXT
        if named and isinstance(node, yaml.ScalarNode) and node.tag != NULL:
            node.tag = STRING
        return node


class ConfigError(ValueError):
    """A sentence that names the file, the field and what is wrong with it."""


class Engine(BaseModel):
    """What runs the network, and how the weights are loaded.

    `dtype` as torch names it, `device` of the replica; "auto" for either. `options` are vLLM's engine
    arguments, by their own names. `prepack` lays the weights of torch's linear layers out for the processor
    when the model loads: short texts one at a time run 1.1 to 1.6 times as fast and every pass in bfloat16
    about 1.2 times, small models in float32 hardly; but a replica then shares those weights with no other on
    its machine (190 MiB more for a model of DistilBERT's size).
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "torch"  # one of its module's `engines`
    options: dict[str, Any] = {}
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    prepack: bool = False


class ModelConfig(BaseModel):
    """One model's `config.yml`. Only `module_id` is required.

    `hf_model` is a Hub model or a folder; without it the model is the checkpoint in the config's own folder,
    or else the module's default. `deployment` holds Ray Serve's own deployment options by their own names.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    module_id: str
    hf_model: str | None = None
    hf_model_revision: str | None = Field(
        None, validation_alias=AliasChoices("hf_model_revision", "hf_revision")
    )
    batching: Batching = Batching()
    engine: Engine = Engine()
    deployment: dict[str, Any] = {}
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @field_validator("module_id")
    @classmethod
    def _known(cls, module_id: str) -> str:
        if module_id not in MODULES:
            raise ValueError(f"no module has the id {module_id!r}")
        return module_id

    @model_validator(mode="after")
    def _fitting(self) -> "ModelConfig":
        if self.engine.name not in self.module.engines:
            known = " or ".join(self.module.engines)
            raise ValueError(f"`engine.name`: {self.module.task.name} runs on {known} only")
        if self.engine.name != "vllm" and self.engine.options:
            raise ValueError(f"`engine.options` are vLLM's; `engine.name` is {self.engine.name}")
        if self.engine.prepack and (self.engine.name != "torch" or self.engine.device == "cuda"):
            raise ValueError("`engine.prepack` is of the engine torch on processors")
        if self.engine.name == "openvino" and self.engine.device == "cuda":
            raise ValueError("`engine.device`: OpenVINO runs on processors")
        if self.engine.name == "vllm" and "batching" in self.model_fields_set:
            raise ValueError("`batching` is of Roster's own engine; vLLM has `engine.options` for it")
        return self

    @property
    def module(self) -> type[Module]:
        return MODULES[self.module_id]

    def checkpoint(self, folder: Path | None) -> Checkpoint:
        """The checkpoint to load: `hf_model`, else the folder's own, else the module's default."""
        name, revision, pickle = self.hf_model, self.hf_model_revision, self.allow_pickle
        # `Path.exists` raises where a folder may not be entered or a name is too long.
        if name is None and folder and os.path.exists(folder / "config.json"):
            name, revision = str(folder), None  # what lies in a folder has none
        elif name is None:
            name, revision = self.module.default_model, revision or self.module.default_revision
            # Some of the defaults are from before safetensors. A revision that we pinned ourselves is known.
            pickle = pickle or (revision is not None and revision == self.module.default_revision)
        elif folder and os.path.exists(folder / name / "config.json"):
            name, revision = str(folder / name), None
        return Checkpoint(
            name,
            revision,
            dtype=self.engine.dtype,
            trust_remote_code=self.trust_remote_code,
            pickle=pickle,
            engine=self.engine.name,
            engine_options=self.engine.options,
            prepare=prepack if self.engine.prepack else None,
        )


def read(folder: Path) -> ModelConfig:
    """Read `folder`'s config.yml. Raises `ConfigError`."""
    path = folder / CONFIG
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode) or stat.st_size > MAX_CONFIG:
            raise ConfigError(f"{_short(path)}: must be a file of at most {MAX_CONFIG // 1024} KiB")
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise ConfigError(f"{_short(path)}: the file is missing") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{_short(path)}: is not UTF-8") from None
    except OSError as unreadable:
        raise ConfigError(f"{_short(path)}: cannot be read: {unreadable.strerror}") from None
    except yaml.YAMLError as broken:
        raise ConfigError(f"{_short(path)}: not YAML: {_one_line(broken)}") from None
    return parse(content, _short(path))


def parse(content: Any, source: str) -> ModelConfig:
    """Check what a config says. `source` names it in errors. Raises `ConfigError`."""
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must be a mapping with a `module_id`")
    try:
        config = ModelConfig.model_validate(content)
        check_deployment(config.deployment)
    except ValidationError as invalid:
        raise ConfigError(f"{source}: {_sentences(invalid, ModelConfig)}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    if config.trust_remote_code and not config.hf_model_revision:
        raise ConfigError(f"{source}: `trust_remote_code` needs a pinned `hf_model_revision`")
    if config.engine.device == "cuda" and not _num_gpus(config.deployment):
        wanted = "`deployment: {ray_actor_options: {num_gpus: 1}}`, or a share of one"
        raise ConfigError(f"{source}: `engine.device: cuda` needs a GPU: {wanted}")
    return config


def _num_gpus(deployment: dict[str, Any]) -> float:
    return float((deployment.get("ray_actor_options") or {}).get("num_gpus") or 0)


def check_deployment(options: dict[str, Any]) -> None:
    """Check Ray Serve deployment options with Serve's own schemas, and their names. Raises `ConfigError`."""
    from ray.serve import Deployment
    from ray.serve import config as serve_config
    from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema

    known = {*DeploymentSchema.model_fields} & {*inspect.signature(Deployment.options).parameters} - OURS
    _check("deployment", options, DeploymentSchema, known, name="model")
    parts: dict[str, type[BaseModel]] = {
        "ray_actor_options": RayActorOptionsSchema,
        "autoscaling_config": serve_config.AutoscalingConfig,
        "request_router_config": serve_config.RequestRouterConfig,
        "backpressure_config": serve_config.BackpressureConfig,
    }
    for name, schema in parts.items():
        if options.get(name) is not None:
            _check(f"deployment.{name}", options[name], schema, {*schema.model_fields})


def _check(where: str, given: Any, schema: type[BaseModel], known: set[str], **fixed: Any) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"`{where}` must be a mapping")
    for name in given:
        if name not in known:
            raise ConfigError(f"`{where}.{name}` is no option of Ray Serve's{_hint(name, known)}")
        if isinstance(given[name], float) and not isfinite(given[name]):
            raise ConfigError(f"`{where}.{name}` must be a finite number")
    try:
        schema.model_validate({**fixed, **given})
    except ValidationError as invalid:
        raise ConfigError(_sentences(invalid, schema, where)) from None


def _sentences(invalid: ValidationError, schema: type[BaseModel], where: str = "") -> str:
    told: dict[str, str] = {}
    for error in invalid.errors():
        # The branches of a union complain one by one; a field's first complaint is enough.
        depth = 1 if where else None
        field = ".".join(str(part) for part in (where, *error["loc"][:depth]) if part)
        told.setdefault(field, _sentence(error, field, schema))
    return "; ".join(told.values())


def _sentence(error: Any, field: str, schema: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"`{field}` is no field of it{_hint(field, {*schema.model_fields})}"
    told: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], (int, float, date)):
        told += "; put it in quotes"
    return f"`{field}`: {told}" if field else told


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(str(name), sorted(known), 1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
