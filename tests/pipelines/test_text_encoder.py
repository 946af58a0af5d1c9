"""Embeddings and sentence similarity: pooling, the checkpoint's own recipe, limits."""

from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from torch.nn.functional import cosine_similarity

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InvalidInput, ModelNotReady
from deployments.pipelines.text_encoder import TextEncoder
from deployments.tasks.embeddings import Embeddings, EmbeddingsInput, EmbeddingsParams
from deployments.tasks.sentence_similarity import (
    SentenceSimilarity,
    SentenceSimilarityInput,
    SentenceSimilarityOutput,
    SentenceSimilarityParams,
)
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded
from tests.samples import LONG

pytestmark = pytest.mark.model

TEXTS = ["I loved it.", "Hello! How are you? My name is Anna.", "A"]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
NORM = {"idx": 2, "name": "2", "path": "2_LayerNorm", "type": "sentence_transformers.models.LayerNorm"}
CLS = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
PROMPTS = {"prompts": {"query": "Hello! ", "document": ""}, "default_prompt_name": None}


def embed(module: Embeddings, *texts: str, **params: Any) -> list[Any]:
    outputs = answers(module, [EmbeddingsInput(text=text) for text in texts], EmbeddingsParams(**params))
    return [
        output.tokens if output.embedding is None else torch.tensor(output.embedding) for output in outputs
    ]


@pytest.fixture(scope="module")
def plain() -> Embeddings:
    return loaded(Embeddings.module_id, tiny.encoder())


@pytest.fixture(scope="module")
def recipe() -> Embeddings:
    """Return a checkpoint with all of sentence-transformers' files."""
    folder = tiny.encoder(
        modules=[*MODULES, NORMALIZE],
        sentence_bert_config={"max_seq_length": 8},
        config_sentence_transformers=PROMPTS,
        **{"1_Pooling/config": CLS},
    )
    return loaded(Embeddings.module_id, folder)


def test_token_embeddings(plain: Embeddings) -> None:
    for text, tokens in zip(TEXTS, embed(plain, *TEXTS, pooling="none"), strict=True):
        batch = plain.encoder.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = plain.model(**batch).last_hidden_state[0]
        assert [token.index for token in tokens] == batch["input_ids"][0].tolist()
        assert torch.allclose(torch.tensor([token.values for token in tokens]), states, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_ignores_padding(plain: Embeddings, pooling: str) -> None:
    pool = {"mean": lambda rows: rows.mean(0), "cls": lambda rows: rows[0], "last": lambda rows: rows[-1]}[
        pooling
    ]
    pooled = embed(plain, *TEXTS, pooling=pooling)
    for vector, tokens in zip(pooled, embed(plain, *TEXTS, pooling="none"), strict=True):
        expected = pool(torch.tensor([token.values for token in tokens]))
        assert torch.allclose(vector, expected, atol=1e-5)


def test_default_pooling_is_mean_without_normalization(plain: Embeddings) -> None:
    for own, mean in zip(embed(plain, *TEXTS), embed(plain, *TEXTS, pooling="mean"), strict=True):
        assert torch.equal(own, mean)
        assert own.norm() != pytest.approx(1)


def test_checkpoint_pooling_files_apply(recipe: Embeddings) -> None:
    assert recipe.max_length == 8
    for own, cls in zip(embed(recipe, *TEXTS), embed(recipe, *TEXTS, pooling="cls"), strict=True):
        assert torch.allclose(own, cls)
        assert own.norm() == pytest.approx(1)
    assert embed(recipe, *TEXTS, normalize=False)[0].norm() != pytest.approx(1)


def test_prompts_precede_the_text(recipe: Embeddings) -> None:
    [query], [whole] = embed(recipe, "How", prompt_name="query"), embed(recipe, "Hello! How")
    assert torch.allclose(query, whole)
    with pytest.raises(InvalidInput, match=r"'nope'.*'query'"):
        embed(recipe, "How", prompt_name="nope")


def test_dimensions_shorten_vectors(recipe: Embeddings) -> None:
    [short], [long] = embed(recipe, "How", dimensions=4), embed(recipe, "How")
    assert torch.allclose(short, long[:4] / long[:4].norm())
    with pytest.raises(InvalidInput, match="99") as refused:
        embed(recipe, "How", dimensions=99)
    assert refused.value.field == "dimensions"


def test_truncation_side(plain: Embeddings) -> None:
    [left] = embed(plain, LONG, truncation_direction="Left", pooling="none")
    [right] = embed(plain, LONG, truncation_direction="RIGHT", pooling="none")
    assert len(left) == len(right) == plain.max_length == 32
    assert [token.index for token in left] != [token.index for token in right]
    assert (left[0].index, left[-1].index) == (right[0].index, right[-1].index)
    with pytest.raises(InvalidInput, match="at most 32"):
        embed(plain, LONG, truncate=False)
    assert embed(plain, "A", truncate=False)


def test_output_numbers_are_counted(plain: Embeddings) -> None:
    def numbers(**params: Any) -> list[int]:
        inputs = [EmbeddingsInput(text=text) for text in ("A", LONG)]
        return [one.numbers for one in plain.encode(inputs, EmbeddingsParams(**params))]

    assert numbers() == [16, 16]
    assert numbers(pooling="none") == [3 * 16, 32 * 16]
    assert numbers(pooling="none", dimensions=4) == [3 * 4, 32 * 4]


def test_newer_pooling_config_is_read() -> None:
    folder = tiny.encoder(modules=MODULES, **{"1_Pooling/config": {"pooling_mode": "lasttoken"}})
    assert TextEncoder(Checkpoint(str(folder))).config.poolings == ("last",)


@pytest.mark.parametrize(("files", "named"), [
    ({"modules": [*MODULES, {**DENSE, "type": "sentence_transformers.models.LSTM"}]}, "LSTM"),
    ({"modules": [{**MODULES[0], "type": "models.WordEmbeddings"}, MODULES[1]]}, "WordEmb"),
    ({"modules": MODULES[:1]}, "a Pooling"),
    ({"modules": [MODULES[0], DENSE, MODULES[1]]}, "Transformer, Dense, Pooling"),
    ({"modules": MODULES, "1_Pooling/config": {"pooling_mode_median_tokens": True}}, "median"),
    ({"modules": MODULES, "1_Pooling/config": {"pooling_mode": ["mean", "median"]}}, "median"),
    ({"modules": [*MODULES, DENSE], "2_Dense/config": {"in_features": 16, "out_features": 8,
      "activation_function": "os.system"}}, "os.system"),
    ({"modules": [*MODULES, DENSE], "2_Dense/config": {"in_features": 16, "out_features": 8}}, "safetensors"),
    ({"modules": [*MODULES, DENSE], "2_Dense/config": {"module_input_name": "token_embeddings"}}, "token"),
    ({"modules": MODULES, "sentence_albert_config": {"query_expansion": {"length": 32}}}, "query_expansion"),
    ({"modules": MODULES, "config_sentence_transformers": {"model_type": "SparseEncoder"}}, "SparseEncoder"),
    ({"modules": MODULES, "config_sentence_transformers": {"similarity_fn_name": "jaccard"}}, "jaccard"),
    ({"modules": MODULES, "config_sentence_transformers": {"default_prompt_name": "nope"}}, "nope"),
])  # fmt: skip
def test_unsupported_configuration_is_refused_by_name(files: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelNotReady, match=named):
        TextEncoder(Checkpoint(str(tiny.encoder(**files))))


def test_pooling_of_a_request_does_not_skip_layers() -> None:
    folder = tiny.encoder(modules=[*MODULES, NORM], **{"2_LayerNorm/config": {"dimension": 16}})
    save_file(
        {"norm.weight": torch.ones(16), "norm.bias": torch.zeros(16)},
        folder / NORM["path"] / "model.safetensors",
    )
    module = loaded(Embeddings.module_id, folder)
    assert torch.allclose(embed(module, "A", pooling="mean")[0], embed(module, "A")[0])
    with pytest.raises(InvalidInput, match="mean") as refused:
        embed(module, "A", pooling="cls")
    assert refused.value.field == "pooling"


def test_decoder_without_pad_token_embeds() -> None:
    module = loaded(Embeddings.module_id, tiny.gpt2())
    together = embed(module, *TEXTS, pooling="last")
    for text, vector in zip(TEXTS, together, strict=True):
        assert torch.allclose(vector, embed(module, text, pooling="last")[0], atol=1e-5)


def test_text_without_tokens_is_refused() -> None:
    module = Embeddings()
    module.load(Checkpoint(str(tiny.gpt2())))
    module.encoder.tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Strip()
    with pytest.raises(InvalidInput, match="no tokens"):
        embed(module, " ")


def test_encoder_decoder_embeds_with_its_encoder() -> None:
    [vector] = embed(loaded(Embeddings.module_id, tiny.seq2seq()), "Hello!")
    assert len(vector) == 16


@pytest.fixture(scope="module")
def similarity() -> SentenceSimilarity:
    return loaded(SentenceSimilarity.module_id, tiny.encoder())


class TestSimilarity:
    def compare(
        self, similarity: SentenceSimilarity, *items: dict[str, Any]
    ) -> list[SentenceSimilarityOutput]:
        inputs = [SentenceSimilarityInput(**item) for item in items]
        return answers(similarity, inputs, SentenceSimilarityParams())

    def test_similarity_is_the_cosine_of_the_vectors(self, similarity: SentenceSimilarity) -> None:
        [found] = self.compare(similarity, {"source_sentence": "I loved it.", "sentences": [*TEXTS, LONG]})
        [vectors] = self.compare(similarity, {"sentences": [*TEXTS, LONG]})
        values = torch.tensor([vector.values for vector in vectors.embeddings])
        assert found.similarities == pytest.approx(cosine_similarity(values[:1], values).tolist(), abs=1e-5)
        assert found.similarities[0] == pytest.approx(1)
        assert found.embeddings is None
        assert vectors.similarities is None
        assert [vector.index for vector in vectors.embeddings] == [0, 1, 2, 3]

    def test_output_numbers_are_counted(self, similarity: SentenceSimilarity) -> None:
        items = [{"sentences": TEXTS}, {"source_sentence": "A", "sentences": TEXTS}]
        inputs = [SentenceSimilarityInput(**item) for item in items]
        encoded = similarity.encode(inputs, SentenceSimilarityParams())
        assert [one.numbers for one in encoded] == [3 * 16, 3]

    def test_sentences_of_all_inputs_share_passes(
        self, similarity: SentenceSimilarity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes, forward = [], similarity.model.forward

        def spy(*args: Any, **kwargs: Any) -> Any:
            sizes.append(len(kwargs["input_ids"]))
            return forward(*args, **kwargs)

        monkeypatch.setattr(similarity.model, "forward", spy)
        self.compare(similarity, {"source_sentence": "A", "sentences": ["B", "I"]}, {"sentences": ["A", "C"]})
        assert sizes == [5]

    def test_many_sentences_are_split_by_tokens(
        self, similarity: SentenceSimilarity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        passes, vectors = [], similarity.encoder.vectors

        def spy(ids: Any, **given: Any) -> Any:
            passes.append(len(ids) * max(map(len, ids)))
            return vectors(ids, **given)

        monkeypatch.setattr(similarity.encoder, "vectors", spy)
        sentences = [f"{number} {'quick ' * (number % 20)}" for number in range(200)]
        monkeypatch.setattr("deployments.pipelines.text_encoder.CPU_PASS", (100_000, 100_000))
        [whole] = self.compare(similarity, {"source_sentence": "A", "sentences": sentences})
        assert len(passes) == 1
        monkeypatch.setattr("deployments.pipelines.text_encoder.CPU_PASS", (100, 2))
        [split] = self.compare(similarity, {"source_sentence": "A", "sentences": sentences})
        assert len(passes) > 30 and max(passes[1:]) <= 100
        assert split.similarities == pytest.approx(whole.similarities, abs=1e-5)

    def test_out_of_memory_splits_passes(
        self, similarity: SentenceSimilarity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        item = {"source_sentence": "A", "sentences": [*TEXTS, LONG, "I"]}
        [whole] = self.compare(similarity, item)
        monkeypatch.setattr("deployments.pipelines.text_encoder.CPU_PASS", (100_000, 100_000))
        forward, passes, most = similarity.model.forward, [], 2

        def spy(input_ids: Any, **given: Any) -> Any:
            passes.append(len(input_ids))
            if len(input_ids) > most:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            return forward(input_ids=input_ids, **given)

        monkeypatch.setattr(similarity.model, "forward", spy)
        [halved] = self.compare(similarity, item)
        assert halved.similarities == pytest.approx(whole.similarities, abs=1e-5)
        assert passes == [6, 3, 1, 2, 3, 1, 2]
        most = 0
        with pytest.raises(RuntimeError, match="out of memory"):
            self.compare(similarity, item)
