"""The processes that ``torchrun`` started together: who does what, and what they tell each other."""

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
        rank: its number, from 0; only the first one writes.
        size: how many there are.
        device: where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.device = device

    def share(self, total: int) -> slice:
        """Its part of so many samples: the parts of all follow each other, and differ by one at most."""
        small, more = divmod(total, self.size)
        begin = self.rank * small + min(self.rank, more)
        return slice(begin, begin + small + (self.rank < more))

    def sums(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
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
        """Until all are here."""
        distributed.barrier()

    def parallel(self, model: nn.Module) -> nn.Module:
        """``model`` with its gradients averaged over all processes when a backward pass ends."""
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def same_random_numbers(self) -> None:
        """Every process goes on with the random numbers of the first one."""
        set_random_state(self.device, self.gather(random_state(self.device))[0])

    def draw_the_same(self) -> bool:
        """Whether the next random numbers of all are the same."""
        first, *others = self.gather(random_state(self.device))
        return all(torch.equal(*pair) for other in others for pair in zip(first, other))


class Alone:
    """A program of one process, by those calls of :class:`Processes` that need no other one."""

    rank, size = 0, 1

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of the only process."""
        return [value]

    def wait(self) -> None:
        """No-op: there is no other process."""


def random_state(device: torch.device) -> list[Tensor]:
    """The states of PyTorch's generators, of the CPU and of ``device``."""
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
    """The processes of ``torchrun``, joined for a while; None for a program that runs alone.

    NCCL joins GPUs, Gloo CPUs.

    Args:
        device: where this process runs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    joined = distributed.is_initialized()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not joined:
        # Loaded after the group, by an optimizer, it keeps the group to the end of the program, and with it threads of
        # Gloo, which abort a program that ends while they still let go of a tensor.
        from torch import _dynamo  # noqa: F401

        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device)
    finally:
        if not joined:
            distributed.destroy_process_group()
