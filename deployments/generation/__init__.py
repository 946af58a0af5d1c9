"""Continuous batching, sampling and decoding of the text that language models generate."""
