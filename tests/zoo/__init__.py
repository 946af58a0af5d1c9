"""Tiny checkpoints of every architecture family that transformers maps to a module's auto class."""
