"""Sentiment: a sentence in, labels out."""

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.encoders import ENGINES
from deployments.engines.positions import max_length
from deployments.pipelines.labels import Function, top_labels
from deployments.pipelines.tokenization import Collator, input_token_ids
from deployments.schema import Label, Schema, Text, TextOrTokens
from deployments.task import Encoded, Module, task


class SentimentInput(TextOrTokens):
    text: Text = Field(
        description="The sentence to classify.",
        examples=["I loved every minute of it.", "The soup was cold and the waiter rude."],
    )


class SentimentParams(Schema):
    top_k: int | None = Field(None, ge=1, description="How many labels to return; by default all.")
    return_all_scores: bool | None = Field(
        None,
        description="An older name: true returns all labels, false only the best, unless `top_k` is set.",
    )
    truncation: bool = Field(True, description="Truncate a text over the limit; otherwise it is refused.")
    function_to_apply: Function | None = Field(
        None,
        description="The activation that converts logits to scores; by default the checkpoint's.",
    )
    sort: bool = Field(
        True, description="Sort labels by score; otherwise they have the order of the model's label ids."
    )


class SentimentOutput(Schema):
    labels: list[Label] = Field(description="Each label and its score.")


@task(
    "sentiment",
    pipeline_tag="text-classification",
    single_output_in_list=True,
    dialect_params={"caikit": {"sort": False}},
)
class Sentiment(Module):
    """Classify the sentiment of a sentence."""

    module_id = "FADC770C-25C8-4685-A176-51FF67B382C1"
    default_model = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    network_kinds = ("SEQUENCE_CLASSIFICATION",)
    engines = tuple(ENGINES)

    max_length: int

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForSequenceClassification

        self.tokenizer = checkpoint.tokenizer()
        self.model = checkpoint.network(AutoModelForSequenceClassification)
        self.max_length = max_length(self.tokenizer, self.model)
        self.collate = Collator(self.tokenizer, self.model)
        self.padding_cost = ENGINES[checkpoint.engine](self.model)

    def encode(self, inputs: list[SentimentInput], params: SentimentParams) -> list[Encoded]:
        texts = [item.text for item in inputs]
        ids = input_token_ids(self.tokenizer, inputs, texts, self.max_length, truncate=params.truncation)
        return [Encoded(row, len(row), truncated=row.truncated) for row in ids]

    def run(self, inputs: list[list[int]], params: SentimentParams) -> list[SentimentOutput]:
        import torch

        with torch.inference_mode():
            logits = self.model(**self.collate(inputs, self.model.device)).logits
        top_k = params.top_k or (1 if params.return_all_scores is False else None)
        rows = top_labels(logits, self.model.config, params.function_to_apply, top_k, params.sort)
        return [SentimentOutput(labels=row) for row in rows]
