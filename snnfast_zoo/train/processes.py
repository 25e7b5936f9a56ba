"""Processes started by ``torchrun``: they train one network together, or each its own seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class Processes:
    """This process among ``size`` that run the same program; without arguments, this process alone.

    Attributes:
        rank: number of this process, from 0; only the first one writes and prints.
        size: number of processes.
        device: device of this process.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def refuse_several(self, op: str) -> None:
        """Raise ValueError if several processes train a network by a rule that only one can follow."""
        if self.size > 1:
            raise ValueError(
                f"{op}: a rule of its own trains in one process; use several for seeds side by side (--seeds)"
            )

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of every process, plain values, in the order of the ranks."""
        every: list[Any] = [value]
        if self.size > 1:
            every *= self.size
            distributed.all_gather_object(every, value)
        return every

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.gather(None)

    def common_order(self, order: Tensor) -> Tensor:
        """Return this process's part of the first one's order of samples; all parts have the same length.

        As in ``torch.utils.data.DistributedSampler``, the first samples are repeated if the parts would differ. The
        other processes then draw other random numbers than the first one.
        """
        if self.size == 1:
            return order
        order, seed = self.gather((order, int(torch.randint(2**62, ()))))[0]
        if not self.first:
            torch.manual_seed(seed + self.rank)
        return self.share(order)

    def share(self, order: Tensor) -> Tensor:
        """Return this process's part of ``order``."""
        missing = -len(order) % self.size
        repeats = order.repeat(-(-missing // max(len(order), 1)))[:missing]
        return torch.cat([order, repeats])[self.rank :: self.size]

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return ``model`` with gradients that are averaged over all processes at the end of a backward pass.

        On GPUs its batch normalisations take the statistics of the whole batch (``SyncBatchNorm``); on CPUs those of
        the share of each process.
        """
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def same_buffers(self, model: nn.Module) -> None:
        """Set buffers of ``model``, such as running statistics, to those of the first process."""
        for buffer in model.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)


def joined_already() -> Processes:
    """Return this process among those of ``torch.distributed``, on the CPU; alone if its group is not initialised."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes of ``torchrun`` for the duration of the context: GPUs by NCCL, CPUs by Gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Imported after the group is made, by an optimizer, it keeps the group alive to the end of the program. Then
    # threads of Gloo abort a program that ends while they still release a tensor.
    from torch import _dynamo  # noqa: F401

    joined_before = distributed.is_initialized()
    if not joined_before:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        if not joined_before:
            distributed.destroy_process_group()
