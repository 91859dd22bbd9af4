"""Which of torch's attention kernels run on a GPU: by its capability alone, so that pixels never hang on a trial.

cuDNN's are the fastest on data-centre Hopper and Blackwell and slower than flash attention on Ampere, Ada and
workstation Blackwell (reports of users of large transformers; not measured by this project). A kernel that cannot do
a shape (heads wider than 256, a mask) leaves it to the next in the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

CUDNN_FIRST = ((9, 0), (10, 0), (10, 3))
"""Capabilities of H100/H200/GH200 and of B200/B300."""
_BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def order_for(capability: tuple[int, int]) -> tuple[str, ...]:
    """Names of the kernels to try, the preferred one first."""
    first = ("cudnn", "flash") if capability in CUDNN_FIRST else ("flash", "cudnn")
    return (*first, "efficient", "math")


def attention_name(device: torch.device) -> str:
    """For records: `cudnn, flash, efficient, math`, or `cpu`."""
    if device.type != "cuda":
        return device.type
    return ", ".join(order_for(torch.cuda.get_device_capability(device)))


@contextmanager
def attention_kernels(device: torch.device) -> Iterator[None]:
    """The order for the time of a call on a GPU; elsewhere torch has one kernel only."""
    if device.type != "cuda":
        yield
        return
    order = order_for(torch.cuda.get_device_capability(device))
    with sdpa_kernel([_BACKENDS[name] for name in order], set_priority=True):
        yield
