"""Train a BERT that computes how similar two sentences are."""

from functools import partial

from starter_models.sentence_encoder import evaluate as evaluate
from starter_models.sentence_encoder import train_encoder

train = partial(train_encoder, "sentence_similarity")
