"""The device of a replica's network, and the replica's share of a GPU."""

from deployments.errors import ModelNotReady

GPU_MEMORY_SHARE = 0.9  # of a replica's share of its GPU; the CUDA context of each process takes the rest


def pick_device(setting: str) -> str:
    """Return the device to load onto; `setting` is the config's, and "auto" lets this function choose.

    That is "cuda" if Serve assigned this replica a GPU that torch supports, else "cpu". A replica without
    `num_gpus` sees every GPU of its node, so torch alone cannot tell which ones belong to the replica.
    Raises `ModelNotReady` if the setting is "cuda" and torch has no GPU.
    """
    import ray
    import torch

    if setting == "cuda" and not torch.cuda.is_available():
        raise ModelNotReady("`engine.device` is cuda, but torch finds no GPU on this node")
    if setting != "auto":
        return setting
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"


def assigned_gpus() -> float:
    """Return the number of GPUs that Serve assigned to this replica; a fraction is a share of one."""
    import ray

    if not ray.is_initialized():
        return 0.0
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))


def limit_gpu_memory(device: str) -> None:
    """Limit torch to this replica's share of the GPU's memory."""
    import torch

    if device == "cuda" and 0 < (gpus := assigned_gpus()) < 1:
        torch.cuda.set_per_process_memory_fraction(GPU_MEMORY_SHARE * gpus)


def release_cached_memory(device: str) -> None:
    """Release the GPU memory that torch caches and does not use."""
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
