"""What a model's `config.yml` may say."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

import deployments.tasks  # noqa: F401  (registers the modules that a config may name)
from deployments.engines.checkpoint import Checkpoint
from deployments.limits import Batching
from deployments.task import MODULES, Module


class Engine(BaseModel):
    """What runs the network, and how the weights are loaded.

    `dtype` as torch names it, `device` of the replica; "auto" for either. `options` are vLLM's engine
    arguments, by their own names.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "torch"  # one of its module's `engines`
    options: dict[str, Any] = {}
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


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
        )
