"""OpenAI's protocol: its requests, answers and errors, and the handlers of its routes."""
