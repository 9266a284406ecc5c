"""Which device a worker computes on."""

import ray
import torch


def device_of_worker() -> str:
    """`cuda` where Ray gave this actor a share of a GPU, else `cpu`: so does whoever asks a worker's code without Ray."""
    # Asked for GPUs where there is no Ray, it would start one of its own, which nobody shuts down.
    has_gpu = ray.is_initialized() and bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return "cuda" if has_gpu else "cpu"
