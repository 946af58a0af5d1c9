"""Which modules of Roster the load of a model and a first call import. Runs in a process per model."""

import asyncio
import sys
from pathlib import Path


def loaded_modules(folder: Path) -> tuple[str, set[str], set[str]]:
    """Load a folder's model; returns its task's module, what a replica imports at start, and what then."""
    import yaml

    import deployments.replica.model_replica as replica

    at_start = _modules()
    config = replica.ModelConfig.model_validate(yaml.safe_load((folder / "config.yml").read_text()))
    module = replica.load(config, folder, "cpu")
    task = module.task
    inputs = [task.input.model_validate(example) for example in task.examples()[:1]]
    if module.batches_itself():
        asyncio.run(module.run(inputs, task.params()))
    else:
        encoded = module.encode(inputs, task.params())
        module.run([each.input for each in encoded], task.params())
    return type(module).__module__, at_start, _modules() - at_start


def _modules() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] == "deployments"}
