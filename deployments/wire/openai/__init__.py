"""OpenAI's protocol: its requests, responses and errors, and the handlers of its routes."""
