"""A DistilBERT that turns sentences into vectors."""

from __future__ import annotations

from transformers import DistilBertConfig, DistilBertModel

from starter_models import encoders
from starter_models.training import Card, Checkpoint, Starter


def train() -> Checkpoint:
    """Trains a DistilBERT of two layers."""
    words = encoders.tokenizer()
    configuration = DistilBertConfig(
        vocab_size=len(words),
        dim=72,
        n_layers=2,
        n_heads=4,
        hidden_dim=144,
        max_position_embeddings=encoders.LONGEST,
        dropout=0.1,
        attention_dropout=0.05,
    )
    return encoders.train(DistilBertModel(configuration), words)


STARTER = Starter(
    name="embeddings",
    module_id="01A9FC92-EF27-4AE7-8D95-E2DC488302D4",
    train=train,
    evaluate=encoders.evaluate,
    card=Card(
        title="Roster starter: embeddings",
        pipeline_tag="feature-extraction",
        library="sentence-transformers",
        tags=("transformers", "sentence-similarity"),
        purpose=encoders.PURPOSE.format(model="A DistilBERT of 200 thousand parameters"),
        not_for=encoders.NOT_FOR,
        usage=encoders.USAGE.format(name="embeddings"),
        measured=encoders.MEASURED,
    ),
)
