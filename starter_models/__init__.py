"""Training of the starter models that are committed under models/, one small checkpoint per task."""
