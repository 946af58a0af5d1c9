"""What loads a checkpoint and runs its network: torch, OpenVINO and vLLM."""
