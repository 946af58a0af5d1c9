"""A Ray Serve cluster for Hugging Face models: every folder in `models/` is a deployment, live."""
