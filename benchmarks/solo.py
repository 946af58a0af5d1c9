"""Generation one prompt at a time: transformers' own `generate` in a process of its own, without a server.

`python -m benchmarks.solo FOLDER COUNT` speaks as `benchmarks.inprocess` does.
"""

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import inprocess, texts

NEW_TOKENS = 32


class Solo:
    """A language model and the prompts; greedy, always `NEW_TOKENS` long."""

    def __init__(self, folder: Path, count: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.prompts = texts.texts(count)
        self.generate(self.prompts[0])

    def generate(self, prompt: str) -> list[int]:
        """The ids of the new tokens."""
        asked = self.tokenizer(prompt, return_tensors="pt")
        with self.torch.inference_mode():
            ids = self.model.generate(
                **asked, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=self.tokenizer.pad_token_id
            )
        new: list[int] = ids[0, asked["input_ids"].shape[1] :].tolist()
        return new

    def rate(self, seconds: float, place: int, share: int, **_: Any) -> dict[str, float]:
        """Tokens per second."""
        begin, made = time.perf_counter(), 0
        while (took := time.perf_counter() - begin) < seconds or not made:
            for prompt in self.prompts[place::share][:4]:
                made += len(self.generate(prompt))
        return {"rate": made / took}

    def answers(self, count: int) -> dict[str, list[str]]:
        told = [self.tokenizer.decode(self.generate(prompt)) for prompt in self.prompts[:count]]
        return {"answers": told}


if __name__ == "__main__":
    inprocess.obey(Solo(Path(sys.argv[1]), int(sys.argv[2])))
