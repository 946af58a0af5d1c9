"""Train a DistilBERT that computes sentence embeddings."""

from functools import partial

from starter_models.sentence_encoder import evaluate as evaluate
from starter_models.sentence_encoder import train_encoder

train = partial(train_encoder, "embeddings")
