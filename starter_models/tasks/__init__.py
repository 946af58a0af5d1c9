"""One module per starter model, each with `train()` and `evaluate(folder)`."""
