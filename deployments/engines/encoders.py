"""What runs a network that reads texts whole, by the name that a config gives it."""

from collections.abc import Callable
from typing import Any

from deployments.engines.openvino import encoder as openvino_engine
from deployments.engines.torch.packed_encoder import pack

ENGINES: dict[str, Callable[[Any], float]] = {"torch": pack, "openvino": openvino_engine.compile}
"""Each makes a loaded network ready to run, and tells what a padded token costs beside a real one."""
