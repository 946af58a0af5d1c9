"""What the cluster says of one model: the row that the Catalog writes and every dialect and page reads."""

from dataclasses import dataclass, field
from typing import Literal

from deployments.schema import Schema

State = Literal["loading", "ready", "unavailable"]


class Description(Schema):
    """What a loaded replica says of itself.

    `gpu_ids`: its node's cards that it has, or has a share of. `bytes`: of the weights; `memory_bytes`: the
    most that the process has held.
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
    """Replicas that answer now, and how many Serve is asked for."""

    running: int = 0
    wanted: int = 0


class Card(Schema):
    """One folder of `models/` (or one application that declares itself a model), as it stands now.

    `state` is "ready" while requests are answered (or held until a replica has scaled up from zero),
    "loading" while the first replica starts, "unavailable" when neither; `reason` says why, in a sentence.
    `num_gpus` is each replica's share of a GPU, or how many it has.
    `max_ongoing_requests` is how many requests a replica holds at once, and `max_queued_requests` how many
    may wait for it at a Router; -1 for any number.
    `task`, `module_id` and `model` are None where the folder is too broken to tell.
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
    """

    version: str = NOT_LOOKED_YET
    startup_complete: bool = False
    cards: dict[str, Card] = field(default_factory=dict)
