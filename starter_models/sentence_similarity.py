"""A BERT that tells how alike two sentences are."""

from __future__ import annotations

from transformers import BertConfig, BertModel

from starter_models import encoders
from starter_models.training import Card, Checkpoint, Starter


def train() -> Checkpoint:
    """Trains a BERT of two layers."""
    words = encoders.tokenizer()
    configuration = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=encoders.LONGEST,
        type_vocab_size=1,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.05,
    )
    return encoders.train(BertModel(configuration, add_pooling_layer=False), words)


STARTER = Starter(
    name="sentence_similarity",
    module_id="A2543F83-1520-416B-85E4-F2BCB6F63354",
    train=train,
    evaluate=encoders.evaluate,
    card=Card(
        title="Roster starter: sentence similarity",
        pipeline_tag="sentence-similarity",
        library="sentence-transformers",
        tags=("transformers", "feature-extraction"),
        purpose=encoders.PURPOSE.format(model="A BERT of 170 thousand parameters"),
        not_for=encoders.NOT_FOR,
        usage=encoders.USAGE.format(name="sentence_similarity"),
        measured=encoders.MEASURED,
    ),
)
