"""Procedures that train several runs in a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .repeats import Trial
from .run import Procedure, S


class Together(Procedure[S]):
    """A procedure whose :meth:`repeat` trains several runs at once."""

    @abstractmethod
    def at_once(self, settings: S, device: torch.device | str) -> int:
        """Return the number of runs to train together."""

    @abstractmethod
    def several(self, every: Sequence[S], *, progress: bool | None = None, **where: Any) -> list[Trial]:
        """Train two runs or more; arguments as in :meth:`trials`."""

    def trials(self, every: Sequence[S], *, out: Path, progress: bool | None = None, **where: Any) -> list[Trial]:
        """Train one run as the base class does, or several together."""
        if len(every) > 1:
            return self.several(every, progress=progress, **where)
        return super().trials(every, out=out, progress=progress, **where)


def in_groups(
    every: Sequence[Any], key: Callable[[Any], object], trials: Callable[[list[Any]], Sequence[Trial]]
) -> list[Trial]:
    """Call ``trials`` once for all settings with the same ``key``; return the trials in the order of ``every``."""
    groups: dict[object, list[int]] = {}
    for k, settings in enumerate(every):
        groups.setdefault(key(settings), []).append(k)
    done: dict[int, Trial] = {}
    for members in groups.values():
        done |= zip(members, trials([every[k] for k in members]), strict=True)
    return [done[k] for k in range(len(every))]


def side_by_side(device: torch.device | str) -> int:
    """Return the number of independent networks that run in parallel: threads, or multiprocessors of a GPU."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return torch.get_num_threads()
