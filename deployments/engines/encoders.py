"""The engines of encoder networks, by their names in the config: one line each.

A function prepares a loaded network and returns the cost of a padded token relative to a real one.
`generators` is the same table for language models.
"""

from collections.abc import Callable
from typing import Any

from deployments.engines.openvino import encoder as openvino
from deployments.engines.torch import packed_encoder as torch

ENGINES: dict[str, Callable[[Any], float]] = {
    "torch": torch.prepare,
    "openvino": openvino.compile_encoder,
}
