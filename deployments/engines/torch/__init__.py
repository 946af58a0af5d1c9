"""Networks that torch runs: encoders without padding, and runners that generate text."""
