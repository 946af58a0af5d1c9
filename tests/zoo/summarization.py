"""Networks of an encoder and a decoder, compared with the texts of transformers' `generate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.tasks.summarization import Summarization, SummarizationInput, SummarizationParams
from tests.loaded_models import answers
from tests.zoo.checkpoints import checkpoint
from tests.zoo.comparison import TEXTS, text_of
from tests.zoo.families import families
from tests.zoo.tiny_configs import POSITIONS

MODULE = Summarization
FAMILIES = families("SEQ_TO_SEQ_CAUSAL_LM")
EXCEPTIONS: dict[str, str] = {}
NEW_TOKENS = 8


def build(family: str) -> Path:
    return checkpoint(FAMILIES[family], family, "bpe")


def check(folder: Path, engine: str, dtype: str) -> None:
    module = Summarization()
    module.load(Checkpoint(str(folder), engine=engine, dtype=dtype))
    limit = min(module.max_length, POSITIONS)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS, text_of(tokenizer, limit), text_of(tokenizer, limit + 1)]
    for beams in (1, 3):
        expected = transformers_texts(folder, dtype, texts, limit=module.max_length, beams=beams)
        assert len(set(expected)) > 1, "all alike"
        alone = [text for one in texts for text in write(module, [one], beams)]
        assert alone == expected
        if dtype == "float32":
            assert write(module, texts, beams) == expected


def write(module: Summarization, texts: Sequence[str], beams: int) -> list[str]:
    params = SummarizationParams(max_new_tokens=NEW_TOKENS, num_beams=beams)
    outputs = answers(module, [SummarizationInput(text=text) for text in texts], params)
    return [output.summary_text for output in outputs]


def transformers_texts(
    folder: Path, dtype: str, texts: Sequence[str], *, limit: int, beams: int
) -> list[str]:
    tokenizer: Any = hf.AutoTokenizer.from_pretrained(folder)
    network: Any = hf.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype).eval()
    written = []
    for text in texts:
        batch = tokenizer(
            text, return_tensors="pt", truncation=True, max_length=limit, return_token_type_ids=False
        )
        with torch.inference_mode():
            [ids] = network.generate(**batch, max_new_tokens=NEW_TOKENS, num_beams=beams, do_sample=False)
        written.append(tokenizer.decode(ids, skip_special_tokens=True).strip())
    return written
