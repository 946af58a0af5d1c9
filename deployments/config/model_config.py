"""The schema of a model's `config.yml`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

import deployments.tasks  # noqa: F401  (registers the modules that a config may name)
from deployments.config.folder_contents import has_checkpoint
from deployments.engines.checkpoint import Checkpoint
from deployments.engines.torch.prepacked_linear import prepack
from deployments.limits import Batching
from deployments.task import MODULES, Module


class Engine(BaseModel):
    """What runs the network, and how the weights are loaded."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "torch",
        description="The engine: `torch`, or, for the tasks that they support, `openvino` or `vllm`.",
    )
    options: dict[str, Any] = Field({}, description="vLLM's engine arguments, by their own names.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="The type of the weights in memory; `auto` chooses by the checkpoint and the device.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="The device of each replica; `auto` is a GPU where the replica has a share of one.",
    )
    prepack: bool = Field(
        False,
        description="Whether torch lays the weights of linear layers out for the processor. Single short "
        "texts run 1.1 to 1.6 times as fast, bfloat16 about 1.2 times, large float32 batches hardly faster. "
        "A replica then shares these weights with no other replica (190 MiB for DistilBERT's size).",
    )


class ModelConfig(BaseModel):
    """One model's `config.yml`. Only `module_id` is required."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    module_id: str = Field(description="The module that serves the model: an id from [tasks.md](tasks.md).")
    hf_model: str | None = Field(
        None,
        description="A model on the Hub, or a folder: absolute, or inside the model's own folder. Without "
        "it, Roster serves the checkpoint in the model's own folder, or else the module's default model.",
    )
    hf_model_revision: str | None = Field(
        None,
        validation_alias=AliasChoices("hf_model_revision", "hf_revision"),
        description="The branch, tag or commit of `hf_model`. `hf_revision` is accepted too.",
    )
    batching: Batching = Field(
        Batching(), description="The limits of one batch. An edit of them does not reload the weights."
    )
    engine: Engine = Field(Engine(), description="What runs the network, and how the weights are loaded.")
    deployment: dict[str, Any] = Field(
        {}, description="Ray Serve's deployment options, by their own names. Serve's own schemas check them."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run the Python code that the checkpoint brings. Needs a pinned `hf_model_revision`.",
    )
    allow_pickle: bool = Field(
        False,
        description="Load weights that are not safetensors. Pickled weights can run code when they load.",
    )

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
            raise ValueError(f"`engine.options` are for vLLM only; `engine.name` is {self.engine.name}")
        if self.engine.prepack and (self.engine.name != "torch" or self.engine.device == "cuda"):
            raise ValueError("`engine.prepack` applies to torch on the CPU only")
        if self.engine.name == "openvino" and self.engine.device == "cuda":
            raise ValueError("`engine.device`: OpenVINO runs on the CPU only")
        if self.engine.name == "vllm" and "batching" in self.model_fields_set:
            raise ValueError("`batching` does not apply to vLLM; set its own limits in `engine.options`")
        return self

    @property
    def module(self) -> type[Module]:
        return MODULES[self.module_id]

    def checkpoint(self, folder: Path | None) -> Checkpoint:
        """Return the checkpoint to load: `hf_model`, else the folder's own, else the module's default."""
        name, revision, pickle = self.hf_model, self.hf_model_revision, self.allow_pickle
        if name is None and folder and has_checkpoint(folder):
            name, revision = str(folder), None  # a local folder has no revision
        elif name is None:
            name, revision = self.module.default_model, revision or self.module.default_revision
            # Some defaults are older than safetensors. Roster has checked the revisions that it pins.
            pickle = pickle or (revision is not None and revision == self.module.default_revision)
        elif folder and has_checkpoint(folder / name):
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
