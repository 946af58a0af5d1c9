"""The state of each model: the Catalog publishes it, Routers, dialects and the UI read it."""

from dataclasses import dataclass, field
from typing import Literal

from deployments.schema import Schema

State = Literal["loading", "ready", "unavailable"]


class Description(Schema):
    """The facts that a loaded replica reports about itself.

    `gpu_ids`: the GPUs of its node that it has, or has a share of. `bytes`: the size of the weights;
    `memory_bytes`: the peak memory of the process.
    """

    device: str
    gpu_ids: list[str] = []
    dtype: str
    parameters: int
    bytes: int
    memory_bytes: int | None = None
    max_length: int | None
    max_batch_size: int
    max_batch_tokens: int | None
    max_batch_pixels: int | None = None


class Replicas(Schema):
    """The replicas that serve requests now, and how many Serve should run."""

    running: int = 0
    wanted: int = 0


class Card(Schema):
    """The state of one folder of `models/`, or of one application that declares itself a model.

    `state` is "ready" while requests are served (or held until a replica has scaled up from zero), "loading"
    while the first replica starts, else "unavailable"; `reason` says why, in a sentence. A model stays ready
    while the current content of its folder cannot be served; `reason` then says why not.
    `num_gpus` is each replica's share of a GPU, or its number of GPUs.
    `max_ongoing_requests` is how many requests a replica holds at once, and `max_queued_requests` how many
    may wait for it at a Router; -1 for any number.
    `task`, `module_id` and `model` are None if the folder's configuration cannot be read.
    """

    id: str
    state: State
    reason: str = ""
    task: str | None = None
    module_id: str | None = None
    model: str | None = None
    revision: str | None = None
    folder: str | None = None
    replicas: Replicas = Replicas()
    num_gpus: float = 0.0
    max_ongoing_requests: int = 100
    max_queued_requests: int = -1
    description: Description | None = None


NOT_LOOKED_YET = ""
"""The version of a snapshot before the Catalog has read the folder and the cluster."""


@dataclass(frozen=True)
class Snapshot:
    """The cards of all models at one moment.

    `startup_complete`: each folder that existed at start is ready, unavailable, or waits for a node.
    `successors`: the next cards of the models whose module changes; each holds once its new module runs.
    """

    version: str = NOT_LOOKED_YET
    startup_complete: bool = False
    cards: dict[str, Card] = field(default_factory=dict)
    successors: dict[str, Card] = field(default_factory=dict)
