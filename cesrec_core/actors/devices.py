"""Which device a worker computes on."""

import ray
import torch

from cesrec_core.errors import ConfigError


def device_of_worker() -> str:
    """`cuda` where Ray gave this actor a share of a GPU, else `cpu`: so does whoever asks a worker's code without Ray.

    Raises:
        ConfigError: Ray gave it one that PyTorch cannot use. Precision hangs on what is configured, so that a CPU would work
            with half of it, slowly, and nobody would notice.
    """
    # Asked for GPUs where there is no Ray, it would start one of its own, which nobody shuts down.
    if not (ray.is_initialized() and ray.get_gpu_ids()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            f"Ray gave this worker a GPU (ray.num_gpus_per_actor), and PyTorch {torch.__version__} there cannot use one. "
            "Install a CUDA build of PyTorch that fits the driver where the actors run, or set ray.num_gpus_per_actor=0."
        )
    return "cuda"
