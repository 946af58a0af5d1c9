"""The gateway's `args` in serve_config.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GatewayArgs(BaseModel):
    """The gateway's `args` in serve_config.yaml."""

    model_config = ConfigDict(extra="forbid")

    models: Path = Field(
        Path("models"),
        description="The folder to follow, absolute or relative to the checkout. Every node must see it.",
    )
    allowed_image_hosts: list[str] = Field(
        [], description="The hosts from which Routers may fetch images that a request names by URL."
    )
    timeout_s: float = Field(
        60.0,
        gt=0,
        description="The seconds after which a call fails; in a stream, the seconds from chunk to chunk.",
    )
    ui: bool = Field(True, description="Whether to serve the Gradio pages, under `/ui`.")
    default_model: str | None = Field(
        None, description="The model for requests that name none, such as `/embed` and `/rerank`."
    )
    allow_model_control: bool = Field(
        False, description="Whether callers may unload models and load them again."
    )
    transport: Literal["channel", "handle"] = Field(
        "channel",
        description="How requests reach replicas: `channel`, over Roster's connections; or `handle`, through "
        "Ray Serve's public handles, which is slower but uses no private API of Ray.",
    )
    warm_workers: int = Field(
        1,
        ge=0,
        le=16,
        description="Processes per node that have imported torch and transformers already (0.5 GB each), so "
        "that a new replica starts sooner.",
    )
