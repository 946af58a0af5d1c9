"""The Hub's inference protocol: its requests, responses and errors, and the handlers of its routes."""
