"""A checkpoint is served by the modules that its network fits, and refused by the others by name."""

import pytest

import deployments.tasks  # noqa: F401  (registers the modules)
from deployments.engines.architectures import check_architecture
from deployments.errors import ModelNotReady
from deployments.task import MODULES

FITTING = {module.task.name: module.network_kinds for module in MODULES.values()}


def refusal(task: str, *architectures: str) -> str:
    """Return the reason why a task's module refuses the architectures, or an empty string."""
    try:
        check_architecture({"architectures": list(architectures)}, FITTING[task], FITTING)
    except ModelNotReady as reason:
        return str(reason)
    return ""


@pytest.mark.parametrize(("architecture", "fits"), [
    ("BertForSequenceClassification", ["sentiment"]),  # a cross-encoder is one too
    ("LlamaForSequenceClassification", ["sentiment"]),
    ("BertModel", ["embeddings", "sentence-similarity"]),
    ("XLMRobertaForMaskedLM", ["embeddings", "sentence-similarity"]),
    ("T5EncoderModel", ["embeddings", "sentence-similarity"]),
    ("Qwen3ForCausalLM", ["text-generation", "conversational", "embeddings", "sentence-similarity"]),
    ("BartForConditionalGeneration", ["summarization", "embeddings", "sentence-similarity"]),
    ("ViTForImageClassification", ["image-classification"]),
    ("DetrForObjectDetection", ["object-detection"]),
    ("DetrForSegmentation", ["image-segmentation"]),
    ("SegformerForSemanticSegmentation", ["image-segmentation"]),
    ("BertForTokenClassification", []),
    ("WhisperForConditionalGeneration", []),
])  # fmt: skip
def test_a_network_fits_its_modules_only(architecture: str, fits: list[str]) -> None:
    assert {task for task in FITTING if not refusal(task, architecture)} == set(fits)
    for task in FITTING.keys() - set(fits):
        reason = refusal(task, architecture)
        assert architecture in reason
        assert all(other in reason for other in fits) and (fits or "no module" in reason)


@pytest.mark.parametrize("config", [None, {}, {"architectures": None}, {"architectures": ["MyOwnModel"]}])
def test_an_unknown_architecture_is_left_to_the_loading_report(config: object) -> None:
    check_architecture(config, FITTING["sentiment"], FITTING)
