"""The Hub's inference protocol: its requests, answers and errors, and the handlers of its routes."""
