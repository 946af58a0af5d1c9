"""Tabs made by hand: every file here is one, and says which tasks it `fits`; all others get the form."""

import importlib
import pkgutil
from collections.abc import Callable

from deployments.task import Task
from ui import form_tab
from ui.client import Client
from ui.panel import Panel
from ui.requests import Place

MADE = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]


def builder(task: Task) -> Callable[[Task, Client, Place], Panel]:
    """What makes the task's tab."""
    found: Callable[[Task, Client, Place], Panel]
    found = next((tab.build for tab in MADE if tab.fits(task)), form_tab.build)
    return found
