"""Loading of checkpoints, and the engines that run their networks: torch, OpenVINO and vLLM."""
