"""Vectors are those of sentence-transformers, whose files in a checkpoint say how it was trained."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from deployments.tasks.embeddings import Embeddings, EmbeddingsInput, EmbeddingsParams
from deployments.tasks.sentence_similarity import (
    SentenceSimilarity,
    SentenceSimilarityInput,
    SentenceSimilarityParams,
)
from tests import tiny_models as tiny
from tests.loaded_models import loaded
from tests.samples import LONG

pytestmark = pytest.mark.model

STARTERS = [Path(__file__).parents[2] / "models" / name for name in ("embeddings", "sentence_similarity")]
TEXTS = [
    "A man is eating food.",
    "Stock markets fell sharply on Monday morning.",
    "ünïcödé 😀 文字",
    "a",
    LONG,
]
PROMPTS = {"query": "Hello! How are you? ", "document": ""}
MODULES = [
    {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
    for place, (path, kind) in enumerate(
        [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    )
]


@cache
def checkpoint(pooling: str, normalize: bool, default: str | None = None) -> Path:
    """Return a tiny random encoder with all of sentence-transformers' files."""
    modes = {f"pooling_mode_{name}": name == pooling for name in ("cls_token", "mean_tokens", "lasttoken")}
    return tiny.encoder(
        modules=MODULES if normalize else MODULES[:2],
        sentence_bert_config={"max_seq_length": 12, "do_lower_case": False},
        config_sentence_transformers={"prompts": PROMPTS, "default_prompt_name": default},
        **{"1_Pooling/config": {"word_embedding_dimension": 16, **modes}, "2_Normalize/config": {}},
    )


@cache
def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer  # takes seconds, also where no test needs it

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def ours(folder: Path, **params: Any) -> torch.Tensor:
    module: Any = loaded(Embeddings.module_id, folder)
    chosen = EmbeddingsParams(**params)
    encoded = module.encode([EmbeddingsInput(text=text) for text in TEXTS], chosen)
    return torch.tensor([one.embedding for one in module.run([one.input for one in encoded], chosen)])


def same(found: torch.Tensor, theirs: torch.Tensor) -> None:
    """Alike in direction, and in length."""
    assert found.shape == theirs.shape
    assert (1 - cosine_similarity(found.double(), theirs.double(), dim=-1)).abs().max() < 1e-5
    assert torch.allclose(found.norm(dim=-1), theirs.norm(dim=-1), rtol=1e-4)


@pytest.mark.parametrize("normalize", [None, True, False])
@pytest.mark.parametrize("folder", STARTERS, ids=lambda folder: folder.name)
def test_starter_models_match_sentence_transformers(folder: Path, normalize: bool | None) -> None:
    theirs = reference(folder).encode(TEXTS, convert_to_tensor=True, normalize_embeddings=normalize or False)
    # Where the checkpoint itself normalizes, sentence-transformers cannot turn it off.
    found = ours(folder, normalize=normalize)
    same(torch.nn.functional.normalize(found, dim=-1) if normalize is False else found, theirs)


def test_similarities_match_sentence_transformers() -> None:
    folder = STARTERS[1]
    module: Any = loaded(SentenceSimilarity.module_id, folder)
    item, params = (
        SentenceSimilarityInput(source_sentence=TEXTS[0], sentences=TEXTS[1:]),
        SentenceSimilarityParams(),
    )
    (output,) = module.run([one.input for one in module.encode([item], params)], params)
    theirs = reference(folder)
    expected = theirs.similarity(theirs.encode(TEXTS[:1]), theirs.encode(TEXTS[1:]))[0]
    assert output.similarities == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("prompt", [None, "query", "document"])
@pytest.mark.parametrize("default", [None, "query"])
@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "as they are"])
@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "lasttoken"])
def test_checkpoint_pooling_matches_sentence_transformers(
    pooling: str, normalize: bool, default: str | None, prompt: str | None
) -> None:
    folder = checkpoint(pooling, normalize, default)
    assert reference(folder).max_seq_length == 12
    theirs = reference(folder).encode(TEXTS, prompt_name=prompt, convert_to_tensor=True)
    same(ours(folder, prompt_name=prompt), theirs)


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "lasttoken"])
def test_dimensions_match_sentence_transformers(pooling: str) -> None:
    folder = checkpoint(pooling, True)
    theirs = reference(folder).encode(
        TEXTS, convert_to_tensor=True, truncate_dim=8, normalize_embeddings=True
    )
    same(ours(folder, dimensions=8), theirs)
