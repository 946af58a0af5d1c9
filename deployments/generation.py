"""Text from a language model: what may be asked of it, and one way to generate, whole or streamed."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from deployments.completion import Answer, GeneratedChunk, Token, chunks
from deployments.errors import InvalidInput
from deployments.sampling import Sampler, SamplingParams, fresh_seed, resolve

if TYPE_CHECKING:
    import torch

DEFAULT_NEW_TOKENS = 100  # where neither the request nor the checkpoint says
LEAST_USUAL, MOST_USUAL = 32, 1024  # whatever a checkpoint says; a request may say more
LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "num_beams")


class GenerationParams(SamplingParams):
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=16, description="Strings that end the answer; they are not part of it."
    )
    truncate: int | None = Field(None, ge=1, description="Keep only so many of the prompt's last tokens.")
    details: bool = Field(False, description="Tell why the answer ended, its seed and its tokens as well.")


class TextGenerator:
    """A loaded language model that continues prompts of token ids; `task` is the Hub's name for its work."""

    def __init__(self, tokenizer: Any, model: Any, max_length: int, task: str) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.max_length = max_length
        self.own = take_settings(model, task)
        self.ends = _ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)
        self.pad = next(iter(_ids(tokenizer.pad_token_id) or self.ends), 0)

    def run(self, prompts: Sequence[list[int]], params: GenerationParams) -> list[Answer]:
        """One whole answer per prompt."""
        settings = resolve(params, self.own)
        answers = [self._answer(prompt, params, settings) for prompt in prompts]
        alike = defaultdict(list)  # beside longer ones, a padded row would run past the model's positions
        for answer in answers:
            alike[answer.budget].append(answer)
        for group in alike.values():
            self._generate(group, params, settings)
        return answers

    def stream(self, prompt: list[int], params: GenerationParams) -> Iterator[GeneratedChunk]:
        """The answer's chunks as they come; closing the iterator ends the work at the next token."""
        settings = resolve(params, self.own)
        answer = self._answer(prompt, params, settings)
        came: SimpleQueue[GeneratedChunk | BaseException | None] = SimpleQueue()
        gone = threading.Event()

        def hear(tokens: list[Token]) -> None:
            for chunk in chunks(answer, tokens):
                came.put(chunk)

        def work() -> None:
            try:
                self._generate([answer], params, settings, hear, gone)
                came.put(None)
            except BaseException as error:
                came.put(error)

        worker = threading.Thread(target=work, name="generate", daemon=True)
        worker.start()
        try:
            yield from _until_none(came)
        finally:
            gone.set()
            worker.join()

    def _answer(self, prompt: list[int], params: GenerationParams, settings: dict[str, Any]) -> Answer:
        prompt = self._cut(prompt, params.truncate or len(prompt))
        wanted = params.max_new_tokens or self._usual_length(len(prompt))
        prompt = self._cut(prompt, max(self.max_length - wanted, self.max_length // 2))
        return Answer(
            self.tokenizer,
            prompt,
            ends=self.ends,
            budget=min(wanted, self.max_length - len(prompt)),
            stops=params.stop,
            seed=(fresh_seed() if params.seed is None else params.seed) if settings else None,
        )

    def _usual_length(self, prompt: int) -> int:
        usual = self.own.get("max_new_tokens", DEFAULT_NEW_TOKENS)
        if "max_length" in self.own and "max_new_tokens" not in self.own:
            usual = self.own["max_length"] - prompt
        return int(min(max(usual, LEAST_USUAL), MOST_USUAL))

    def _cut(self, prompt: list[int], size: int) -> list[int]:
        """The prompt's last `size` tokens, of which the token that begins every text stays the first."""
        bos = self.tokenizer.bos_token_id
        prompt = prompt or [token for token in (bos, *self.ends) if token is not None][:1]
        if not prompt:
            raise InvalidInput("the text has no tokens for this model")
        first = prompt[:1] if prompt[0] == bos else []
        return prompt if len(prompt) <= size else first + prompt[len(prompt) - size + len(first) :]

    def _generate(
        self,
        answers: list[Answer],
        params: GenerationParams,
        settings: dict[str, Any],
        hear: Callable[[list[Token]], None] | None = None,
        gone: threading.Event | None = None,
    ) -> None:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        ids, mask = self._pad([list(answer.prompt) for answer in answers])
        sampler = Sampler(settings, [answer.seed or 0 for answer in answers], ids.device)
        config = GenerationConfig(
            max_new_tokens=answers[0].budget,
            do_sample=False,
            num_beams=1,
            repetition_penalty=params.repetition_penalty or self.own.get("repetition_penalty"),
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=self.pad,
        )
        with torch.inference_mode():
            self.model.generate(
                ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList([_Follow(answers, sampler, hear, gone)]),
            )

    def _pad(self, prompts: list[list[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        import torch

        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]
        ids = [[self.pad] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
        mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)


class _Follow:
    """A stopping criterion that hands each new token to its answer; a row ends when its answer does."""

    def __init__(
        self,
        answers: list[Answer],
        sampler: Sampler,
        hear: Callable[[list[Token]], None] | None,
        gone: threading.Event | None,
    ) -> None:
        self.answers, self.sampler, self.hear, self.gone = answers, sampler, hear, gone

    def __call__(self, input_ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        import torch

        for answer, token, logprob in zip(
            self.answers, input_ids[:, -1].tolist(), self.sampler.logprobs, strict=True
        ):
            if answer.finish_reason is None:
                clear = answer.push(token, logprob)
                if self.hear:
                    self.hear(clear)
        gone = self.gone is not None and self.gone.is_set()
        return torch.tensor(
            [gone or answer.finish_reason is not None for answer in self.answers], device=input_ids.device
        )


def take_settings(model: Any, task: str) -> dict[str, Any]:
    """Take the checkpoint's own lengths and sampling settings out of its generation config, and return them.

    Left there they would mix with a request's, and `generate` would warn. What an old checkpoint's config
    says for the `task` comes first, as in transformers' pipelines; a `prefix` may be among it.
    """
    config = model.generation_config
    special = (getattr(model.config, "task_specific_params", None) or {}).get(task, {})
    for name in special.keys() & vars(config):
        setattr(config, name, special[name])
    own = {name: getattr(config, name, None) for name in (*LENGTHS, *SAMPLING)}
    for name in own:
        setattr(config, name, None)
    return {name: value for name, value in (special | own).items() if value is not None}


def _until_none(came: "SimpleQueue[GeneratedChunk | BaseException | None]") -> Iterator[GeneratedChunk]:
    while (item := came.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def _ids(*given: int | list[int] | None) -> set[int]:
    return {one for ids in given if ids is not None for one in (ids if isinstance(ids, list) else [ids])}
