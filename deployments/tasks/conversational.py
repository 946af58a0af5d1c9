"""Conversation: the turns so far in, the reply out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.generators import ENGINES
from deployments.generation.output import Generated, GeneratedChunk, to_generated
from deployments.generation.params import GenerationParams
from deployments.limits import Batching
from deployments.pipelines.chat_template import ChatTemplate
from deployments.pipelines.text_generator import TextGenerator
from deployments.schema import Messages, Schema
from deployments.task import Module, task


class ConversationalInput(Schema):
    messages: Messages = Field(
        description="The conversation so far, oldest turn first.",
        examples=[
            [{"role": "user", "content": "Hello! How are you?"}],
            [
                {"role": "user", "content": "My name is Anna."},
                {"role": "assistant", "content": "Nice to meet you, Anna!"},
                {"role": "user", "content": "What is my name?"},
            ],
        ],
    )


@task("conversational", single_output_in_list=True)
class Conversational(Module):
    """Reply in a conversation."""

    module_id = "BC008C71-A272-4858-9D43-7297B35ABAC4"
    default_model = "microsoft/DialoGPT-small"
    default_revision = "4e936e3a11f8e077b31eec8f045499c92c7cf087"
    network_kinds = ("CAUSAL_LM",)
    engines = tuple(ENGINES)

    def load(self, checkpoint: Checkpoint) -> None:
        self.tokenizer = checkpoint.tokenizer()
        self.template = ChatTemplate(self.tokenizer)
        self.generator = TextGenerator(checkpoint, self.tokenizer, self.task.pipeline_tag)
        self.model, self.max_length = self.generator.model, self.generator.max_length

    async def run(self, inputs: list[ConversationalInput], params: GenerationParams) -> list[Generated]:
        prompts = await asyncio.to_thread(lambda: [self.template.prompt(item.messages) for item in inputs])
        outputs = await self.generator.run(prompts, params)
        return [to_generated(output, params.details) for output in outputs]

    async def stream(
        self, input: ConversationalInput, params: GenerationParams
    ) -> AsyncGenerator[GeneratedChunk, None]:
        prompt = await asyncio.to_thread(self.template.prompt, input.messages)
        async with aclosing(self.generator.stream(prompt, params)) as chunks:
            async for chunk in chunks:
                yield chunk

    def counters(self) -> dict[str, int]:
        return self.generator.counters()

    def limit(self, limits: Batching) -> None:
        self.generator.limits = limits
