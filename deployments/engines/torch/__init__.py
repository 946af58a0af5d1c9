"""Networks that torch runs: encoders without padding, and the runners that generate text."""
