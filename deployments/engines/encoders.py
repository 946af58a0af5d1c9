"""The engines of networks that read whole texts, by the names that a config gives them: one line each.

A function gets a loaded network, makes it ready to run, and returns what a padded token costs beside a real
one. `generators` is the same table for language models.
"""

from collections.abc import Callable
from typing import Any

from deployments.engines.openvino import encoder as openvino
from deployments.engines.torch import packed_encoder as torch

ENGINES: dict[str, Callable[[Any], float]] = {
    "torch": torch.pack,
    "openvino": openvino.compile,
}
