"""Summarization: a long text in, a short one out."""

from typing import Any, Literal

from pydantic import Field, model_validator

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.positions import max_length
from deployments.errors import InvalidInput
from deployments.generation.params import MAX_NEW_TOKENS, SamplingParams
from deployments.generation.sampling import SamplingLogitsProcessor
from deployments.generation.settings import random_seed, resolve_sampling
from deployments.pipelines.text_generator import pop_generation_defaults
from deployments.pipelines.tokenization import Collator, token_ids
from deployments.schema import Schema, Text
from deployments.task import Encoded, Module, task

DEFAULT_NEW_TOKENS = 20  # transformers' default, if neither the request nor the checkpoint sets a length


class SummarizationInput(Schema):
    text: Text = Field(
        description="The text to shorten.",
        examples=[
            "Heavy snow fell in Boston on Friday. The airport cancelled twenty flights. Schools stayed "
            "closed, and many people worked from home.",
            "After five years of work, a new museum was opened in Vienna on Friday. Visitors waited in long "
            "lines. The mayor thanked everyone for their patience.",
        ],
    )


class SummarizationParams(SamplingParams):
    min_new_tokens: int | None = Field(
        None,
        ge=0,
        le=MAX_NEW_TOKENS,
        description="The minimum number of tokens to generate; by default the checkpoint's.",
    )
    max_length: int | None = Field(
        None,
        ge=2,
        le=MAX_NEW_TOKENS,
        description="As `max_new_tokens`, which takes precedence, with the token that starts every summary.",
    )
    min_length: int | None = Field(
        None,
        ge=0,
        le=MAX_NEW_TOKENS,
        description="As `min_new_tokens`, which takes precedence, with the token that starts every summary.",
    )
    length_penalty: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="Above 0, beam search prefers long summaries.",
    )
    num_beams: int | None = Field(None, ge=1, le=16, description="The number of beams of beam search.")
    truncation: Literal["do_not_truncate", "longest_first", "only_first", "only_second"] = Field(
        "longest_first",
        description="Truncate a text over the model's limit, or with `do_not_truncate` refuse it.",
    )
    clean_up_tokenization_spaces: bool | None = Field(
        None, description="Remove spaces before punctuation; by default as the tokenizer is configured."
    )

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, values: Any) -> Any:
        """Merge `generate_parameters`, in which the Hub's clients nest most of these."""
        match values:
            case {"generate_parameters": dict(nested), **others}:
                return {**others, **nested}
        return values


class SummarizationOutput(Schema):
    summary_text: str = Field(description="The summary.")


@task("summarization", single_output_in_list=True)
class Summarization(Module):
    """Summarize a text."""

    module_id = "866DB835-F2EA-4AD1-A57E-E2707A293EB9"
    default_model = "JulesBelveze/t5-small-headline-generator"
    default_revision = "0db30a2"
    network_kinds = ("SEQ_TO_SEQ_CAUSAL_LM",)

    max_length: int

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForSeq2SeqLM

        self.tokenizer = checkpoint.tokenizer()
        self.model = checkpoint.network(AutoModelForSeq2SeqLM)
        self.max_length = max_length(self.tokenizer, self.model)
        self.collate = Collator(self.tokenizer, self.model)
        self.own = pop_generation_defaults(self.model, self.task.pipeline_tag)

    def encode(self, inputs: list[SummarizationInput], params: SummarizationParams) -> list[Encoded]:
        texts = [self.own.get("prefix", "") + item.text for item in inputs]
        truncate = params.truncation != "do_not_truncate"
        return [
            Encoded(ids, len(ids), truncated=ids.truncated)
            for ids in token_ids(self.tokenizer, texts, self.max_length, truncate=truncate)
        ]

    def run(self, inputs: list[list[int]], params: SummarizationParams) -> list[SummarizationOutput]:
        import torch

        batch = self.collate(inputs, self.model.device)
        with torch.inference_mode():
            ids = self.model.generate(**batch, **self._generate_options(len(inputs), params))
        clean = params.clean_up_tokenization_spaces
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean)
        return [SummarizationOutput(summary_text=text.strip()) for text in texts]

    def _generate_options(self, count: int, params: SummarizationParams) -> dict[str, Any]:
        """Return the options of `generate`: sampling, beam search or greedy decoding."""
        from transformers import GenerationConfig

        beam_search = params.num_beams is not None and params.num_beams > 1
        if beam_search and resolve_sampling(params, {}):
            problem = "`num_beams` over 1 selects beam search, which cannot be combined with sampling"
            raise InvalidInput(problem, field="num_beams")
        settings = {} if beam_search else resolve_sampling(params, self.own)
        seeds = [random_seed() if params.seed is None else params.seed for _ in range(count)]
        config = GenerationConfig(
            num_beams=params.num_beams or (1 if settings else self.own.get("num_beams", 1)),
            repetition_penalty=params.repetition_penalty or self.own.get("repetition_penalty"),
            length_penalty=params.length_penalty,
            **self._lengths(params),
        )
        processors = [SamplingLogitsProcessor(settings, seeds, self.model.device)] if settings else None
        return {"generation_config": config, "logits_processor": processors}

    def _lengths(self, params: SummarizationParams) -> dict[str, int]:
        own = self.own  # its `max_length` and `min_length` count the token that starts every summary
        longest = own.get("max_new_tokens", own.get("max_length", DEFAULT_NEW_TOKENS + 1) - 1)
        shortest = own.get("min_new_tokens", max(own.get("min_length", 0) - 1, 0))
        if params.max_length is not None:
            longest = params.max_length - 1
        if params.min_length is not None:
            shortest = max(params.min_length - 1, 0)
        longest = min(params.max_new_tokens or longest, self.max_length - 1)
        shortest = shortest if params.min_new_tokens is None else params.min_new_tokens
        return {"max_new_tokens": longest, "min_new_tokens": min(shortest, longest)}
