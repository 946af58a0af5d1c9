"""What loads and runs networks: checkpoints, devices, and one package or module for each engine."""
