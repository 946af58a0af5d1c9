"""Where a replica's network runs, and how much of a GPU is its own."""

from deployments.errors import ModelNotReady

MEMORY = 0.9  # of a replica's share of its GPU: what CUDA itself takes, once for each process, is not counted


def pick_device(wanted: str) -> str:
    """The device to load onto: "cuda" where Serve gave this replica a GPU that torch sees, else "cpu".

    `wanted` wins when it is not "auto".

    A replica without `num_gpus` sees every card of its node, so torch alone cannot tell what is ours.
    """
    import ray
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelNotReady("`engine.device` is cuda, and torch sees no GPU here")
    if wanted != "auto":
        return wanted
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"


def assigned_gpus() -> float:
    """How many GPUs Serve gave this replica, or which share of one."""
    import ray

    if not ray.is_initialized():
        return 0.0
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))


def keep_to_share(device: str) -> None:
    """Let torch take no more of a GPU than this replica's share: the rest is for others."""
    import torch

    if device == "cuda" and 0 < (gpus := assigned_gpus()) < 1:
        torch.cuda.set_per_process_memory_fraction(MEMORY * gpus)


def release_cached_memory(device: str) -> None:
    """Return to the GPU what torch has kept of its memory and does not use now."""
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
