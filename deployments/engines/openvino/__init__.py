"""Networks that OpenVINO runs on a CPU: text encoders, and language models with paged attention."""
