"""Cache of the memory of large CPU outputs.

Freshly mapped memory costs a page fault for every page first written, several times the time of the kernel that writes
it. The ops therefore take CPU outputs of 1 MiB and more from a separate cache (PyTorch 2.11 and later, Linux),
which holds at most ``limit`` bytes of free blocks: 1/16 of the machine's memory, at most 1 GiB, or
``SNNFAST_CPU_CACHE_MB``; 0 turns it off. Tensors from it are ordinary tensors, except that their storage cannot be
resized in place.
"""

from __future__ import annotations

from typing import NamedTuple

from snnfast import backend, check

__all__ = ["Statistics", "keep_freed_memory", "release", "set_limit", "statistics"]


class Statistics(NamedTuple):
    """Bytes of the memory for large CPU outputs.

    Attributes:
        limit: largest size of the free memory that the cache keeps.
        cached: free memory in the cache.
        in_use: memory of live tensors.
    """

    limit: int
    cached: int
    in_use: int


def statistics() -> Statistics:
    """Return the current statistics of the cache; zeros without the compiled extension."""
    return Statistics(*(backend.extension.output_memory() if backend.extension else (0, 0, 0)))


def set_limit(size: int) -> None:
    """Keep at most ``size`` bytes of free blocks from now on; 0 turns the cache off."""
    size = check.integer("set_limit", "size", size, 0)
    if backend.extension:
        backend.extension.set_output_memory_limit(size)


def release() -> None:
    """Return all free blocks to the system."""
    if backend.extension:
        backend.extension.release_output_memory()


def keep_freed_memory() -> bool:
    """Make malloc keep all freed memory, for the whole process.

    PyTorch's large CPU tensors then cost no page faults either, which in a training loop can be half of the time.
    The price: the process never gets smaller again, and this cannot be undone. The command line calls it, but for
    simulations; a library should not.

    Returns:
        whether it took effect: it does with glibc and the compiled extension.
    """
    return bool(backend.extension and backend.extension.keep_freed_memory())
