"""The gateway's `args` in serve_config.yaml."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# An origin as browsers write it in a request: in small letters, without a path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")
DEFAULT_PORTS = re.compile(r"http://[^/]+:80|https://[^/]+:443")


def _check_origin(origin: str) -> str:
    if origin != "*" and (not ORIGIN.fullmatch(origin) or DEFAULT_PORTS.fullmatch(origin)):
        raise ValueError(
            f"{origin!r} is no origin; write it as browsers do, in small letters, without a path and "
            "a default port: `https://app.example.com` or `http://localhost:3000`"
        )
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]


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
    allowed_origins: list[Origin] = Field(
        [],
        description="The origins whose pages may call the gateway from a browser (CORS), such as "
        "`https://app.example.com` or `http://localhost:3000`; `*` allows every page.",
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
