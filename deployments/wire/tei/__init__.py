"""Text Embeddings Inference's protocol: its types and errors, and the handlers of its routes."""
