"""Parametrization of tests over the tasks."""

import pytest

from deployments.schema import field_types
from deployments.task import TASKS

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
IMAGE_TASKS = [task for task in TASKS.values() if [*field_types(task.input).values()] == ["image"]]
every_image_task = pytest.mark.parametrize("task", IMAGE_TASKS, ids=[task.name for task in IMAGE_TASKS])
STREAMING_TASKS = [task for task in TASKS.values() if task.chunk]
