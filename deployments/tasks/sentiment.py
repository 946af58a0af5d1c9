"""Sentiment: a sentence in, how it feels out."""

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint, max_length
from deployments.engines.encoders import ENGINES
from deployments.pipelines.labels import Function, labels
from deployments.pipelines.tokenization import Collator, known_tokens, token_ids
from deployments.schema import Label, Schema, Text
from deployments.task import Encoded, Module, task


class SentimentInput(Schema):
    text: Text = Field(
        description="The sentence to judge.",
        examples=["I loved every minute of it.", "The soup was cold and the waiter rude."],
    )


class SentimentParams(Schema):
    top_k: int | None = Field(None, ge=1, description="How many labels to return; all if not given.")
    function_to_apply: Function | None = Field(
        None,
        description="What turns the network's outputs into scores; the checkpoint's own choice if not given.",
    )
    sort: bool = Field(True, description="Best label first; otherwise in the order of the model's label ids.")


class SentimentOutput(Schema):
    labels: list[Label] = Field(description="Each label and how well it fits.")


@task(
    "sentiment",
    pipeline_tag="text-classification",
    single_output_in_list=True,
    dialect_params={"caikit": {"sort": False}},
)
class Sentiment(Module):
    """Tell how a sentence feels."""

    module_id = "FADC770C-25C8-4685-A176-51FF67B382C1"
    default_model = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    engines = tuple(ENGINES)

    max_length: int

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForSequenceClassification

        self.tokenizer = checkpoint.tokenizer()
        self.model = checkpoint.network(AutoModelForSequenceClassification)
        self.max_length = max_length(self.tokenizer, self.model.config)
        self.collate = Collator(self.tokenizer, known_tokens(self.model))
        self.padding_cost = ENGINES[checkpoint.engine](self.model)

    def encode(self, inputs: list[SentimentInput], params: SentimentParams) -> list[Encoded]:
        ids = token_ids(self.tokenizer, [item.text for item in inputs], self.max_length)
        return [Encoded(one, len(one)) for one in ids]

    def run(self, inputs: list[list[int]], params: SentimentParams) -> list[SentimentOutput]:
        import torch

        with torch.inference_mode():
            logits = self.model(**self.collate(inputs, self.model.device)).logits
        found = labels(logits, self.model.config, params.function_to_apply, params.top_k, params.sort)
        return [SentimentOutput(labels=row) for row in found]
