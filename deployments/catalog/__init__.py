"""The control plane: it reads the models folder and makes Ray Serve run what the folder describes."""
