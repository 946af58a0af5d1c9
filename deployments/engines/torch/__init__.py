"""The engine torch: packed text encoders, and three ways to run the sequences of language models."""
