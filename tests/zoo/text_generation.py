"""Language models, compared with the tokens and probabilities of transformers' `generate`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import ContextLengthExceeded
from deployments.generation.output import Generated
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.zoo.checkpoints import checkpoint
from tests.zoo.comparison import TEXTS, text_of
from tests.zoo.families import families
from tests.zoo.tiny_configs import POSITIONS

MODULE = TextGeneration
FAMILIES = families("CAUSAL_LM")
EXCEPTIONS = {
    "blt": "needs a second network that splits texts",
    "gemma4_assistant": "drafts tokens for another network",
    "gemma4_unified_assistant": "drafts tokens for another network",
    "qwen4_exp_text": "a small config of it does not run",
    "xlstm": "a small config of it does not run",
}
NEW_TOKENS = 6
TOLERANCE, HALF_TOLERANCE = 2e-3, 0.25  # of a log probability


class Written(NamedTuple):
    """The tokens that transformers appends to a prompt, and the log probabilities of all tokens there."""

    ids: list[int]
    logprobs: torch.Tensor


def build(family: str) -> Path:
    return checkpoint(FAMILIES[family], family, "bpe", eos_token_id=None, is_decoder=True)


def check(folder: Path, engine: str, dtype: str) -> None:
    module = TextGeneration()
    module.load(Checkpoint(str(folder), engine=engine, dtype=dtype))
    module.generator.eos_token_ids.clear()  # the tokenizer's, which random networks write at any time
    try:
        asyncio.run(_check(module, folder, dtype))
    finally:
        module.generator.close()


async def _check(module: TextGeneration, folder: Path, dtype: str) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    limit = min(module.max_length, POSITIONS)
    prompts = [*TEXTS[:4], text_of(tokenizer, limit - NEW_TOKENS)]
    expected = transformers_tokens(folder, dtype, prompts)
    alone = [output for prompt in prompts for output in await write(module, [prompt])]
    for outputs in (alone, await write(module, prompts)):
        for output, written in zip(outputs, expected, strict=True):
            compare(output, written, TOLERANCE if dtype == "float32" else HALF_TOLERANCE)
    if module.max_length <= POSITIONS:
        with pytest.raises(ContextLengthExceeded):
            await write(module, [text_of(tokenizer, limit)])


async def write(module: TextGeneration, prompts: Sequence[str]) -> list[Generated]:
    params = TextGenerationParams(max_new_tokens=NEW_TOKENS, do_sample=False, details=True)
    return await module.run([TextGenerationInput(text=prompt) for prompt in prompts], params)


def compare(output: Generated, expected: Written, tolerance: float) -> None:
    """Compare tokens and their log probabilities, up to a step where two tokens are equally probable."""
    ids = [token.id for token in output.details.tokens]
    assert len(ids) == NEW_TOKENS
    for token, best, row in zip(output.details.tokens, expected.ids, expected.logprobs, strict=True):
        assert token.logprob == pytest.approx(float(row[token.id]), abs=tolerance), (ids, expected.ids)
        if token.id != best:
            assert float(row[best] - row[token.id]) <= tolerance, (ids, expected.ids)
            return


def transformers_tokens(folder: Path, dtype: str, prompts: Sequence[str]) -> list[Written]:
    tokenizer: Any = hf.AutoTokenizer.from_pretrained(folder)
    network: Any = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    network.generation_config.eos_token_id = None
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    written = []
    for prompt in prompts:
        batch = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        result = network.generate(
            **batch, **options, eos_token_id=None, return_dict_in_generate=True, output_logits=True
        )
        logits = torch.stack(result.logits)[:, 0].float()
        written.append(Written(result.sequences[0, -NEW_TOKENS:].tolist(), logits.log_softmax(-1)))
    return written
