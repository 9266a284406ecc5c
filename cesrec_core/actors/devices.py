"""Which device a worker computes on."""

import ray
import torch


def device_of_worker() -> str:
    """`cuda` where Ray gave this actor a share of a GPU, else `cpu`."""
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return "cuda" if has_gpu else "cpu"
