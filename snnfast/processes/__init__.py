"""Processes started by ``torchrun``: division of work, and communication."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Alone", "Processes", "together"]

T = TypeVar("T")


class Processes:
    """This process among ``size`` that run the same program, by ``torch.distributed``.

    Attributes:
        rank: number of this process, from 0; only the first one writes.
        size: number of processes.
        device: device of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.device = device

    def share(self, total: int) -> slice:
        """Return the share of this process in ``total`` samples; shares are consecutive and differ by at most 1."""
        small, more = divmod(total, self.size)
        begin = self.rank * small + min(self.rank, more)
        return slice(begin, begin + small + (self.rank < more))

    def sums(self, values: list[float]) -> list[float]:
        """Return the sums of the values over all processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        found: list[float] = total.tolist()
        return found

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of every process, plain values, in the order of the ranks."""
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, value)
        return every

    def wait(self) -> None:
        """Wait until all processes have called this."""
        distributed.barrier()

    def parallel(self, model: nn.Module) -> nn.Module:
        """Wrap ``model`` so that its gradients are averaged over all processes when a backward pass ends."""
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def same_random_numbers(self) -> None:
        """Set the random-number state of every process to that of the first one."""
        set_random_state(self.device, self.gather(random_state(self.device))[0])

    def draw_the_same(self) -> bool:
        """Return whether all processes have the same random-number state."""
        first, *others = self.gather(random_state(self.device))
        return all(torch.equal(*pair) for other in others for pair in zip(first, other))


class Alone:
    """A program of one process, with the methods of :class:`Processes` that need no other process."""

    rank, size = 0, 1

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of the only process."""
        return [value]

    def wait(self) -> None:
        """No-op: there is no other process."""


def random_state(device: torch.device) -> list[Tensor]:
    """Return the states of PyTorch's generators of the CPU and of ``device``."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Restore the states that :func:`random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def put_back(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that restores the random-number state of the CPU and of ``device`` on exit."""
    return torch.random.fork_rng([] if device.type == "cpu" else [device])


@contextmanager
def together(device: torch.device) -> Iterator[Processes | None]:
    """Join the processes of ``torchrun`` for the duration of the context; yield None for a single process.

    NCCL connects GPUs, Gloo CPUs.

    Args:
        device: device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    joined = distributed.is_initialized()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not joined:
        # Imported after the group is made, by an optimizer, it keeps the group alive to the end of the program. Then
        # threads of Gloo abort a program that ends while they still release a tensor.
        from torch import _dynamo  # noqa: F401

        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device)
    finally:
        if not joined:
            distributed.destroy_process_group()
