"""Custom tabs: each module has `fits(task)` and `build(...)`; other tasks get the generic form tab."""

import importlib
import pkgutil
from collections.abc import Callable

from deployments.task import Task
from ui import form_tab
from ui.client import GatewayClient
from ui.panel import TaskPanel
from ui.requests import AddressResolver

TabBuilder = Callable[[Task, GatewayClient, AddressResolver], TaskPanel]
CUSTOM_TABS = [
    importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
]


def find_tab_builder(task: Task) -> TabBuilder:
    """Return the function that builds the task's tab."""
    builder: TabBuilder = next((tab.build for tab in CUSTOM_TABS if tab.fits(task)), form_tab.build)
    return builder
