"""Text generation: a prompt in, its continuation out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.generators import ENGINES
from deployments.generation.output import Generated, GeneratedChunk, to_generated, with_prefix
from deployments.generation.params import GenerationParams
from deployments.limits import Batching
from deployments.pipelines.text_generator import TextGenerator
from deployments.schema import Text, TextOrTokens
from deployments.task import Module, task


class TextGenerationInput(TextOrTokens):
    text: Text = Field(
        description="The prompt.",
        examples=["Once upon a time", "Once there was a brave fox named Mia. One day, Mia"],
    )


class TextGenerationParams(GenerationParams):
    return_full_text: bool = Field(False, description="Return the prompt before the generated text.")


@task(
    "text-generation",
    single_output_in_list=True,
    dialect_params={"caikit": {"return_full_text": True, "max_new_tokens": 20}},
)
class TextGeneration(Module):
    """Continue a text."""

    module_id = "9E42606B-34A8-4D4C-9B6C-6F66DAD8EC5A"
    default_model = "rpgz31/tiny-nfl"
    default_revision = "4a18ca7"
    network_kinds = ("CAUSAL_LM",)
    engines = tuple(ENGINES)

    def load(self, checkpoint: Checkpoint) -> None:
        self.tokenizer = checkpoint.tokenizer()
        self.generator = TextGenerator(checkpoint, self.tokenizer, self.task.pipeline_tag)
        self.model, self.max_length = self.generator.model, self.generator.max_length

    async def run(self, inputs: list[TextGenerationInput], params: TextGenerationParams) -> list[Generated]:
        prompts = await asyncio.to_thread(lambda: [self._prompt(item) for item in inputs])
        outputs = await self.generator.run(prompts, params)
        return [
            to_generated(output, params.details, item.text if params.return_full_text else "")
            for item, output in zip(inputs, outputs, strict=True)
        ]

    async def stream(
        self, input: TextGenerationInput, params: TextGenerationParams
    ) -> AsyncGenerator[GeneratedChunk, None]:
        prompt = await asyncio.to_thread(self._prompt, input)
        prefix = input.text if params.return_full_text else ""
        async with aclosing(self.generator.stream(prompt, params)) as chunks:
            async for chunk in chunks:
                yield with_prefix(prefix, chunk)

    def counters(self) -> dict[str, int]:
        return self.generator.counters()

    def limit(self, limits: Batching) -> None:
        self.generator.limits = limits

    def _prompt(self, item: TextGenerationInput) -> list[int]:
        ids: list[int] = item.token_ids or self.tokenizer(item.text, verbose=False)["input_ids"]
        return ids
