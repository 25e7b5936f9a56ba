"""Networks over several processes: each simulates a range of the neurons, and they exchange spikes as events."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, distributed

from snnfast import backend, check

from .connectivity import MOST_NEURONS, Connectivity

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

ROOM = 30  # spikes of a process that one message holds at first
NO_EVENTS = np.empty((0, 3), np.int32)

_KEYS = itertools.count(1)
_PARTS: WeakValueDictionary[int, Part] = WeakValueDictionary()


class Part:
    """The neurons of this process in a network that the processes of ``torch.distributed`` simulate together.

    A process has the neurons of a range, their states, and the synapses to them. It receives the spikes of all neurons:
    once for each shortest delay, before any of them arrives. Spikes are those of a single process, bit for bit. Without
    ``torch.distributed.init_process_group`` there is one process, with all neurons.

    A part belongs to one run: the next call of ``sparse_recurrent`` with it continues with its last spikes. All
    processes make the same calls. ``torch.compile`` leaves them out of its graphs; ``torch.vmap`` is an error.

    Args:
        neurons: number of neurons of the network, at least that of the processes.
        group: the processes; None: all. Spikes are exchanged on the CPU, by NCCL over the GPU.

    Attributes:
        total: number of neurons of the network.
        neurons: those of this process, a range; the processes have ranges of nearly the same length, one after the
            other.
        rank, size: number of this process, and number of processes.
        exchanges, bytes, seconds: number of exchanges of spikes, bytes of the messages that this process sent to each
            other in them, and their time, with that of waiting for others.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.
        RuntimeError: in a call, if another process ends or does not answer.
    """

    def __init__(self, neurons: int, *, group: ProcessGroup | None = None) -> None:
        self.total = check.integer("Part", "neurons", neurons, 1, MOST_NEURONS)
        self._group = group
        self.rank, self.size, self._device = 0, 1, torch.device("cpu")
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
            if distributed.get_backend(group) == "nccl":
                self._device = torch.device("cuda", torch.cuda.current_device())
        if self.size > self.total:
            raise ValueError(f"Part: neurons must be at least {self.size}, the number of processes, got {self.total}")
        first, last = (k * self.total // self.size for k in (self.rank, self.rank + 1))
        self.neurons = range(first, last)
        self.exchanges, self.bytes, self.seconds = 0, 0, 0.0
        self._key = next(_KEYS)
        _PARTS[self._key] = self
        self.reset()

    def __repr__(self) -> str:
        """Return the range and the process."""
        low, high = self.neurons.start, self.neurons.stop
        return f"Part({low} to {high} of {self.total} neurons, process {self.rank} of {self.size})"

    def reset(self) -> None:
        """Forget the spikes of earlier calls."""
        self._steps = self._samples = self._longest = 0
        self._window = self._last = 1
        self._room = ROOM
        # Spikes of the last steps of earlier calls, and those of this call that the next one needs, by group of samples
        self._past: dict[int, Any] = {}
        self._recent: dict[int, list[Any]] = {}
        self._error: BaseException | None = None

    def continue_after(self, events: Any) -> None:
        """Take the :class:`~snnfast.ops.SpikeEvents` of the whole network as those of all earlier calls, of one sample.

        A simulation that was interrupted goes on after it, with the states that its calls returned.
        """
        self.reset()
        self._steps, self._samples = events.shape[0], 1
        step, sample, neuron = (getattr(events, name).numpy() for name in ("step", "sample", "neuron"))
        self._past = {0: np.stack([step - self._steps, sample, neuron], 1).astype(np.int32)}

    def within(self, first: int, size: int) -> range:
        """Return the neurons of this process in a population of ``size`` neurons that begins at neuron ``first``.

        They are numbered from the first of the population, as ``targets`` of a rule of :mod:`snnfast.connect`.
        """
        first = check.integer("within", "first", first, 0, self.total)
        size = check.integer("within", "size", size, 0, self.total - first)
        return range(*(min(max(neuron - first, 0), size) for neuron in (self.neurons.start, self.neurons.stop)))

    def gather(self, events: Any) -> Any:
        """Return the :class:`~snnfast.ops.SpikeEvents` of the whole network from those of each process."""
        samples = max(torch.Size(events.shape[1:-1]).numel(), 1)
        step, sample, neuron = (getattr(events, name).numpy().astype(np.int64) for name in ("step", "sample", "neuron"))
        codes, _ = self._gathered(self._codes(step, sample, neuron, samples), 0)
        codes.sort()
        step, sample, neuron = self._decoded(codes, samples)
        order = np.lexsort((neuron, sample, step))
        parts = (torch.from_numpy(values[order].astype(np.int32)) for values in (step, sample, neuron))
        return replace(events, **dict(zip(("step", "sample", "neuron"), parts)), shape=(*events.shape[:-1], self.total))

    # ---- called by the op

    def begin(self, op: str, connectivity: Connectivity, steps: int, samples: int) -> Tensor:
        """Agree with the other processes on a call; return its numbers for the kernel (``Part`` of core/recurrent.h).

        These are: neurons of the network, first one of this process, steps between exchanges, key, steps before.
        """
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            raise RuntimeError(
                f"{op}: with part there must be no torch.vmap or other transform outside of the call, which exchanges "
                "its spikes once; give it all samples as a batch"
            )
        sizes = np.array([connectivity.shortest, connectivity.longest, steps, samples, self.total])
        every = self._gathered(sizes, len(sizes))[0].reshape(self.size, -1)
        for name, values in (("num_steps", every[:, 2]), ("batch", every[:, 3]), ("neurons of part", every[:, 4])):
            if (values != values[0]).any():
                raise ValueError(f"{op}: {name} must be the same in all processes, got {values.tolist()}")
        if self._steps and samples != self._samples:
            raise ValueError(
                f"{op}: part has spikes of {self._samples} samples of earlier calls, got {samples}; forget them by "
                "part.reset()"
            )
        self._window, self._longest = int(every[:, 0].min()), int(every[:, 1].max())
        self._last, self._samples = steps, samples
        self._recent, self._error = {}, None
        return torch.tensor([self.total, self.neurons.start, self._window, self._key, min(self._longest, self._steps)])

    def end(self) -> None:
        """Raise the error of an exchange; keep the last spikes for the next call."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        for first, events in self._recent.items():
            past = np.concatenate([self._past.get(first, NO_EVENTS), *events])
            past[:, 0] -= self._last
            self._past[first] = past[past[:, 0] >= -self._longest]
        self._steps += self._last
        self._recent = {}

    def exchange(self, first: int, samples: int, t: int, sent: Any) -> Any:
        """Return the spikes of the whole network since the last exchange, int32 ``[spikes, 3]``: step, sample, neuron.

        They are in order of steps, neurons and samples.

        Args:
            first: first sample.
            samples: number of samples.
            t: number of steps of the call so far. 0: return the spikes before the call.
            sent: spikes of this process, int32 ``[spikes, 3]``.
        """
        if t == 0:
            past = self._past.get(first, NO_EVENTS)
            return past[past[:, 0] >= -self._longest]
        begin = (t - 1) // self._window * self._window
        start = time.perf_counter()
        step, sample, neuron = sent.astype(np.int64).T
        codes = self._codes(step - begin, sample - first, neuron, samples)
        small = self._window * self.total * samples < 2**31
        codes, most = self._gathered(codes.astype(np.int32) if small else codes, self._room)
        self.bytes += codes.itemsize * (1 + max(self._room, most)) if self.size > 1 else 0
        # A message has room for the next exchange; that of a burst is given up slowly.
        self._room = max(ROOM, 2 * most, self._room - self._room // 64)
        codes.sort()
        step, sample, neuron = self._decoded(codes, samples)
        events = np.stack([step + begin, sample + first, neuron], 1, dtype=np.int32, casting="same_kind")
        recent = self._recent.setdefault(first, [])
        if t > self._last - self._longest:
            recent.append(events)
        self.exchanges += 1
        self.seconds += time.perf_counter() - start
        return events

    def _codes(self, step: Any, sample: Any, neuron: Any, samples: int) -> Any:
        """Return spikes of this process as a number each, whose order is that of steps, neurons and samples."""
        return (step * self.total + neuron + self.neurons.start) * samples + sample

    def _decoded(self, codes: Any, samples: int) -> tuple[Any, Any, Any]:
        """Return step, sample and neuron of spikes."""
        rest, sample = (codes, codes * 0) if samples == 1 else np.divmod(codes, samples)
        step, neuron = np.divmod(rest, self.total)
        return step, sample, neuron

    def _gathered(self, numbers: Any, room: int) -> tuple[Any, int]:
        """Return the numbers of all processes, by rank, and the largest count of one.

        The first message of a process has its count and ``room`` numbers; a second has the rest, if one has more.
        """
        if self.size == 1:
            return numbers.copy(), len(numbers)
        head = np.zeros(1 + room, numbers.dtype)
        head[0], head[1 : 1 + len(numbers)] = len(numbers), numbers[:room]
        heads = self._all_gather(head)
        most = int(heads[:, 0].max())
        parts = [row[1 : 1 + row[0]] for row in heads]
        if most > room:
            tail = np.zeros(most - room, numbers.dtype)
            tail[: max(len(numbers) - room, 0)] = numbers[room:]
            tails = self._all_gather(tail)
            parts = [np.concatenate([a, b[: max(row[0] - room, 0)]]) for a, b, row in zip(parts, tails, heads)]
        return np.concatenate(parts), most

    def _all_gather(self, row: Any) -> Any:
        """Return the row of each process, ``[size, len(row)]``."""
        message = torch.from_numpy(row).to(self._device)
        rows = message.new_empty(self.size, len(row))
        try:
            distributed.all_gather(list(rows), message, group=self._group)
        except RuntimeError as error:
            raise RuntimeError(
                f"Part: process {self.rank} of {self.size} received no spikes, since another process ended or does not "
                f"answer; the simulation ends here ({error})"
            ) from error
        return rows.cpu().numpy()


def part_of(key: int) -> Part:
    """Return the part with a key."""
    return _PARTS[key]


def _exchange(key: int, first: int, samples: int, t: int, sent: bytes) -> Any:
    """Exchange spikes for the kernel; None ends its call, whose part then raises the error."""
    part = part_of(key)
    try:
        return part.exchange(first, samples, t, np.frombuffer(sent, np.int32).reshape(-1, 3))
    except BaseException as error:  # Python's errors do not pass through the kernel
        part._error = error
        return None


if backend.extension is not None:
    backend.extension.set_spike_exchange(_exchange)
