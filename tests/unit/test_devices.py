"""Which device a worker's code computes on, in an actor and without Ray."""

import pytest
import ray
import torch

from cesrec_core.actors.devices import device_of_worker
from cesrec_core.errors import ConfigError


def test_without_ray_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: pytest.fail("this starts Ray"))
    assert device_of_worker() == "cpu"


@pytest.mark.parametrize(
    ("ids", "has_cuda", "device"),
    [([0], True, "cuda"), ([], True, "cpu"), ([], False, "cpu")],
    ids=["given", "none", "no CUDA"],
)
def test_an_actor_computes_on_what_it_was_given(
    monkeypatch: pytest.MonkeyPatch, ids: list[int], has_cuda: bool, device: str
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: ids)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert device_of_worker() == device


def test_a_gpu_that_pytorch_cannot_use_is_told_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"gave this worker a GPU.* Install a CUDA build .* or set ray\.num_gpus_per_actor=0"):
        device_of_worker()
