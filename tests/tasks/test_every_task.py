"""What holds for every task; a new one is tested by being there."""

import json
import pickle
from contextlib import suppress
from typing import Any

import pytest

from deployments.errors import InferenceError
from deployments.schema import field_types
from deployments.task import MODULES, TASKS, Module, Task
from tests.loaded_models import answers, starter
from tests.samples import inputs, params

pytestmark = pytest.mark.model

PLAIN = (str, bytes, int, float, bool, type(None))

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
every_module = pytest.mark.parametrize("module_id", MODULES, ids=[m.__name__ for m in MODULES.values()])


def seeded(module: Module, **values: Any) -> Any:
    """Parameters under which two runs must answer alike."""
    seed = {"seed": 7} if "seed" in module.task.params.model_fields else {}
    short = {"max_new_tokens": 8} if "max_new_tokens" in module.task.params.model_fields else {}
    cut = (
        {"truncate": 10**6}
        if {"truncate", "max_new_tokens"} <= module.task.params.model_fields.keys()
        else {}
    )
    return module.task.params(**(seed | short | cut | values))


def close(one: Any, other: Any) -> bool:
    """Whether two dumped outputs are equal, numbers to 1e-4."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, abs=1e-4) if isinstance(one, float) else one == other


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


@every_task
def test_task_has_descriptions(task: Task) -> None:
    assert task.summary.endswith(".")
    for schema in (task.input, task.params, task.output):
        described = schema.model_json_schema()["properties"] if schema.model_fields else {}
        undescribed = [name for name, field in described.items() if not field.get("description")]
        assert not undescribed, (schema.__name__, undescribed)


@every_task
def test_task_has_examples(task: Task) -> None:
    pictures = "image" in field_types(task.input).values()
    assert len(task.examples()) >= (1 if pictures else 2)
    for example in task.examples():
        task.input.model_validate(json.loads(json.dumps(example)))


@every_module
def test_output_is_the_same_alone_and_in_a_batch(module_id: str) -> None:
    module = starter(module_id)
    items = inputs(module.task)
    together = answers(module, items, seeded(module))
    backwards = answers(module, items[::-1], seeded(module))[::-1]
    for item, one, other in zip(items, together, backwards, strict=True):
        [alone] = answers(module, [item], seeded(module))
        assert close(alone.model_dump(), one.model_dump())
        assert close(alone.model_dump(), other.model_dump())


@pytest.mark.parametrize("module_id", [id for id, module in MODULES.items() if not module.batches_itself()])
def test_every_encoded_input_has_a_cost(module_id: str) -> None:
    module = starter(module_id)
    items = inputs(module.task)
    for item, encoded in zip(items, module.encode(items, seeded(module)), strict=True):
        assert encoded.cost >= 1
        [alone] = module.encode([item], seeded(module))
        assert alone.cost == encoded.cost


@every_module
def test_outputs_are_plain_and_picklable(module_id: str) -> None:
    module = starter(module_id)
    for output in answers(module, inputs(module.task), seeded(module)):
        assert pickle.loads(pickle.dumps(output)) == output
        assert module.task.output.model_validate_json(output.model_dump_json()).model_dump().keys()
        assert all(type(leaf) in PLAIN for leaf in leaves(output.model_dump()))


@every_module
def test_every_parameter_is_honoured_or_refused(module_id: str) -> None:
    module = starter(module_id)
    [item, *_] = inputs(module.task)
    for values in params(module.task):
        with suppress(InferenceError):
            answers(module, [item], seeded(module, **values))


@every_module
def test_dialect_defaults_are_valid(module_id: str) -> None:
    task = MODULES[module_id].task
    for defaults in ({}, *task.dialect_params.values()):
        assert task.params(**defaults)


@pytest.mark.parametrize("module_id", [id for id, module in MODULES.items() if module.stream])
async def test_stream_chunks_add_up_to_the_output(module_id: str) -> None:
    module = starter(module_id)
    for item in inputs(module.task):
        chunks = [chunk async for chunk in module.stream(item, seeded(module, details=True))]
        [whole] = await module.run([item], seeded(module))
        assert [chunk.index for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert "".join(c.token.text for c in chunks if not c.token.special) == whole.generated_text
        assert chunks[-1].generated_text == whole.generated_text
        assert all(chunk.details is None for chunk in chunks[:-1])
        assert chunks[-1].details.generated_tokens == len(chunks)
        assert all(pickle.loads(pickle.dumps(chunk)) == chunk for chunk in chunks)
