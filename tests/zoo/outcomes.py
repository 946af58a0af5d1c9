"""The outcome of each architecture in each module, and the page that lists them."""

from types import ModuleType

from deployments.engines.architectures import check_architecture
from deployments.engines.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.task import MODULES
from tests.zoo import embeddings, summarization, text_classification, text_generation

EQUAL, REFUSED, DIFFERENT = "equal", "refused", "differs"
ZOOS: dict[str, ModuleType] = {
    zoo.MODULE.task.name: zoo for zoo in (text_classification, embeddings, text_generation, summarization)
}
FITTING = {module.task.name: module.network_kinds for module in MODULES.values()}


def outcome(task: str, family: str, engine: str = "torch", dtype: str = "float32") -> str:
    """Return "equal", "refused: " with the reason, or "differs: " with the difference."""
    zoo = ZOOS[task]
    folder = zoo.build(family)
    try:
        check_architecture(Checkpoint(str(folder)).json("config.json"), zoo.MODULE.network_kinds, FITTING)
        zoo.check(folder, engine, dtype)
    except (AssertionError, RuntimeError, ValueError, IndexError, AttributeError, TypeError) as difference:
        return f"{DIFFERENT}: {difference!r}"
    except ModelNotReady as reason:
        return f"{REFUSED}: {str(reason).replace(repr(str(folder)), 'the checkpoint')}".replace("\n", " ")
    return EQUAL
