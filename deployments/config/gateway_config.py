"""The gateway's `args` in serve_config.yaml."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class GatewayArgs(BaseModel):
    """The gateway's `args` in serve_config.yaml.

    `models` is the folder to follow, relative to the checkout. `allowed_image_hosts` are the hosts from which
    pictures may be fetched by URL. `timeout_s` bounds every call, and a stream from chunk to chunk. `ui`:
    whether the Gradio pages are served, under /ui. `default_model` answers the routes that name no model.
    `allow_model_control`: whether callers may unload models and load them again. `warm_workers`: how many
    processes per node have imported torch and transformers already (0.5 GB each), so that a new model or
    replica starts sooner.
    """

    model_config = ConfigDict(extra="forbid")

    models: Path = Path("models")
    allowed_image_hosts: list[str] = []
    timeout_s: float = Field(60.0, gt=0)
    ui: bool = True
    default_model: str | None = None
    allow_model_control: bool = False
    warm_workers: int = Field(1, ge=0, le=16)
