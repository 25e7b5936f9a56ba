"""Simulation of a paper's sparse network: progress, rates, variation of intervals, raster, and results as files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from snnfast.connect import Connectivity, Part, PoissonNoise
from snnfast.files.atomic import replacing
from snnfast.ops import SpikeEvents
from snnfast_zoo.train.checkpoint import read_checkpoint, same_settings, write_checkpoint
from snnfast_zoo.train.folder import locked, refuse_to_replace, write_json
from snnfast_zoo.train.place import CHECKPOINT
from snnfast_zoo.train.processes import Processes, joined_already
from snnfast_zoo.train.progress import progress_bar
from snnfast_zoo.train.result import RESULT
from snnfast_zoo.train.settings import Options, option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVENTS, RASTER = "events.npz", "raster.png"
PART = 200.0  # ms that run in a call, which checks all synapses
SAVED = 60.0  # seconds between two checkpoints
SHOWN, NEURONS = 200.0, 100  # ms and neurons of the raster


@dataclass(frozen=True, kw_only=True)
class SimulationSettings(Options):
    """Settings of every simulation."""

    seconds: float = option(1.0, "Simulated time in seconds.", above=0, most=1e6)
    warm_up: float = option(0.2, "Seconds at the beginning that rates and intervals leave out.", least=0)
    scale: float = option(1.0, "Size of the network as a share of the paper's.", above=0, most=100)
    seed: int = option(1, "Seed of connections, states and noise.", least=0, most=2**32 - 1)

    dtype: str = option("float32", "float32 or float64.", choices=("float32", "float64"))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of weights and states."""
        return torch.float32 if self.dtype == "float32" else torch.float64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warm_up >= self.seconds:
            raise ValueError(f"{self.name}: warm_up must be less than seconds, got {self.warm_up} and {self.seconds}")


@dataclass(frozen=True)
class SimulatedNetwork:
    """A sparse network that is ready to run.

    Attributes:
        op: the op of its neurons with sparse connections and their arguments.
        connectivity: the synapses to the neurons of this process.
        weight: their weights.
        populations: number of neurons of each population, in order.
        noise: its input from outside, of all neurons.
        states: initial states by name, and None for those that begin at rest, in the order in which the op returns
            them; of the neurons of this process.
        part: the neurons of this process.
        dt: milliseconds of a step.
        ids: the names that a user's file gives the neurons, integers; None: their numbers.
    """

    op: Callable[..., tuple[Any, ...]]
    connectivity: Connectivity
    weight: Tensor
    populations: Mapping[str, int]
    noise: PoissonNoise | None
    states: Mapping[str, Tensor | None]
    part: Part
    dt: float = 0.1
    ids: Tensor | None = None

    def run(self, steps: int) -> SpikeEvents:
        """Return the spikes of ``steps`` steps, of all neurons."""
        return SpikeEvents.cat([events for events, _ in self.parts(steps)])

    def parts(
        self, steps: int, before: SpikeEvents | None = None, states: Mapping[str, Tensor | None] | None = None
    ) -> Iterator[tuple[SpikeEvents, dict[str, Tensor]]]:
        """Yield the spikes of all neurons, a part of ``steps`` steps after the other, and the states at its end.

        Args:
            steps: number of steps from the beginning of the simulation.
            before: spikes of the steps that were run before; None: none were.
            states: states after these; None: the initial ones.
        """
        c, noise, past, alone = self.connectivity, self.noise, None, self.part.size == 1
        # Parts of several processes have their own past, and the same lengths in all of them.
        every = max(round(PART / self.dt), c.longest if alone else 1)
        self.part.reset()
        first, states = 0 if before is None else before.shape[0], self.states if states is None else states
        if before is not None and alone:
            past = before.window(max(first - c.longest, 0)).dense()
        elif before is not None:
            self.part.continue_after(before)
        for t in range(first, steps, every):
            n = min(every, steps - t)
            more = {"noise": None if noise is None else noise.after(t), "record": "events"}
            events, *after = self.call(n, past, **more, **states)
            past = events.window(max(n - c.longest, 0)).dense() if alone else None
            ended = dict(zip(states, after, strict=True))
            yield events if alone else self.part.gather(events), ended
            states = ended

    def call(self, steps: int, past: Tensor | None = None, **more: Any) -> tuple[Any, ...]:
        """Return spikes and states after ``steps`` steps of the neurons of this process."""
        part = None if self.part.size == 1 else self.part
        return self.op(None, self.weight, self.connectivity, past, num_steps=steps, part=part, **more)


@dataclass(frozen=True)
class Simulation:
    """A paper's network as a command.

    Attributes:
        name: name of the command.
        paper: authors and year.
        settings: type of its settings.
        build: makes the network.
    """

    name: str
    paper: str
    settings: Any
    build: Callable[[Any], SimulatedNetwork]

    def __call__(
        self, out: Path | None = None, *, resume: bool = False, progress: bool | None = None, **changes: Any
    ) -> SimulationResult:
        """Simulate, and write events, raster and result into ``out``; None: write nothing.

        The processes of ``torch.distributed``, where it is initialised, simulate the network together: each builds the
        synapses to its neurons, all return all spikes, and the first one writes. All must make this call.

        Args:
            out: folder, made if missing. Once a minute it gets a checkpoint.
            resume: continue after the checkpoint in ``out``, which must have the same settings, in any number of
                processes.
            progress: progress bar; None: only if standard error is a terminal.
            changes: settings that differ from their defaults.

        Raises:
            TypeError, ValueError: for settings of wrong type or range, or that differ between processes.
            FileExistsError: ``out`` holds a result, or a checkpoint and ``resume`` is False.
            FileNotFoundError, snnfast.checkpoint.CheckpointError: there is nothing to resume, or it does not fit.
            RuntimeError: another process ended.
        """
        self.settings.check_names(self.name, changes)
        settings, processes = self.settings(**changes), joined_already()
        every = processes.gather(settings.plain())
        for name in settings.plain():
            if len(values := {repr(other[name]) for other in every}) > 1:
                raise ValueError(
                    f"{self.name}: the processes simulate one network, so {name} must be the same in all, got "
                    f"{', '.join(sorted(values))}; for networks of their own call it before init_process_group"
                )
        with ExitStack() as stack:
            if out is not None:
                if processes.first:
                    stack.enter_context(locked(out))
                if (out / RESULT).exists():
                    raise FileExistsError(f"{out / RESULT} exists; give another folder (out, --out)")
                if not resume:
                    refuse_to_replace(out / CHECKPOINT)
            stored = self._stored(out, settings) if resume else {}
            start = time.perf_counter()
            network = self.build(settings)
            network.call(0)  # compiles an own neuron
            processes.wait()
            built = time.perf_counter() - start
            steps = round(1000 * settings.seconds / network.dt)
            parts, states = [], None
            if stored:
                step, neuron = stored["step"], stored["neuron"]
                shape = (stored["steps"], network.part.total)
                parts = [SpikeEvents(step, torch.zeros_like(step), neuron, shape, settings.torch_dtype)]
                here = network.part.neurons
                states = {name: state[here.start : here.stop] for name, state in stored["states"].items()}
            start, cpu = time.perf_counter(), time.process_time()
            start, cpu = start - stored.get("seconds", 0.0), cpu - stored.get("cpu_seconds", 0.0)
            shown = {"done": stored.get("steps", 0), "unit": "step"}
            saved, progress = time.perf_counter(), progress if processes.first else False
            with progress_bar(self.name, steps, progress=progress, **shown) as bar:
                for events, after in network.parts(steps, parts[0] if parts else None, states):
                    parts.append(events)
                    bar.update(events.shape[0])
                    if out is not None and processes.gather(time.perf_counter() - saved >= SAVED)[0]:
                        spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
                        self._save(out, settings, processes, SpikeEvents.cat(parts), after, spent)
                        saved = time.perf_counter()
            events = SpikeEvents.cat(parts)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            sizes = processes.gather((len(network.connectivity), network.connectivity.nbytes))
            result = SimulationResult(self.name, settings, network, events, built, seconds, cpu, *map(sum, zip(*sizes)))
            if out is not None and processes.first:
                result.write(out)
                (out / CHECKPOINT).unlink(missing_ok=True)
        return result

    def _save(
        self,
        out: Path,
        settings: SimulationSettings,
        processes: Processes,
        events: SpikeEvents,
        states: Mapping[str, Tensor],
        spent: Mapping[str, float],
    ) -> None:
        """Write a checkpoint of all neurons, by the first process."""
        every = processes.gather(dict(states))
        if processes.first:
            content = {"kind": self.name, "settings": settings.plain(), "steps": events.shape[0], **spent}
            content |= {"step": events.step, "neuron": events.neuron}
            content["states"] = {name: torch.cat([found[name] for found in every]) for name in states}
            write_checkpoint(out / CHECKPOINT, content)

    def _stored(self, out: Path | None, settings: SimulationSettings) -> dict[str, Any]:
        """Return the checkpoint to resume."""
        if out is None:
            raise ValueError(f"{self.name}: resume needs out, the folder of the run, got None")
        stored = read_checkpoint(out / CHECKPOINT, self.name)
        same_settings(out / CHECKPOINT, stored["settings"], settings.plain())
        return stored


@dataclass(frozen=True)
class SimulationResult:
    """A finished simulation.

    Attributes:
        name: name of the simulation.
        settings: its settings.
        network: the network.
        events: all spikes.
        build_seconds, seconds, cpu_seconds: time to build the network, and to run it, in this process.
        synapses, nbytes: synapses of all processes, and bytes of their connectivities.
        rates: spikes a second of a neuron, by population.
        cv: mean coefficient of variation of the intervals of a neuron, by population; neurons with less than five
            intervals are left out.
    """

    name: str
    settings: SimulationSettings
    network: SimulatedNetwork
    events: SpikeEvents
    build_seconds: float
    seconds: float
    cpu_seconds: float
    synapses: int
    nbytes: int
    rates: dict[str, float] = field(init=False)
    cv: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        network = self.network
        steady = self.events.window(round(1000 * self.settings.warm_up / network.dt))
        sizes = list(network.populations.values())
        for name, values in (("rates", steady.rates() * 1000 / network.dt), ("cv", steady.cv())):
            means = (part.nanmean().item() for part in values.split(sizes))
            object.__setattr__(self, name, dict(zip(network.populations, means)))

    def numbers(self) -> dict[str, Any]:
        """Return what ``result.json`` holds."""
        part, biological = self.network.part, self.settings.seconds
        exchanged = {"exchanges": part.exchanges, "bytes": part.bytes, "seconds": round(part.seconds, 3)}
        return {
            "simulation": self.name,
            "settings": self.settings.plain(),
            "neurons": part.total,
            "synapses": self.synapses,
            "bytes_per_synapse": self.nbytes / max(self.synapses, 1),
            "spikes": len(self.events),
            "rates": self.rates,
            "cv": self.cv,
            "build_seconds": round(self.build_seconds, 3),
            "seconds_per_second": round(self.seconds / biological, 4),
            "cpu_seconds_per_second": round(self.cpu_seconds / biological, 4),
            "threads": torch.get_num_threads(),
            "processes": part.size,
            "exchange": exchanged,
        }

    def write(self, out: Path) -> None:
        """Write events, raster and result into a folder."""
        from snnfast_zoo import visual

        with replacing(out / EVENTS) as new, new.open("wb") as file:
            named = {} if self.network.ids is None else {"ids": self.network.ids.numpy()}
            step, neuron = self.events.step.numpy(), self.events.neuron.numpy()
            np.savez(file, step=step, neuron=neuron, shape=self.events.shape, dt=self.network.dt, **named)  # type: ignore[arg-type]
        visual.save(self.raster(), out / RASTER)
        write_json(out / RESULT, self.numbers())

    def raster(self) -> Figure:
        """Draw the last spikes of some neurons, evenly spaced."""
        from snnfast_zoo import visual

        steps, neurons = self.events.shape[0], self.network.part.total
        last = self.events.window(max(steps - round(SHOWN / self.network.dt), 0))
        some = torch.linspace(0, neurons - 1, min(NEURONS, neurons)).long()
        title = f"{self.name}: {len(some)} of {neurons} neurons"
        return visual.raster(last.select(some).dense(), dt=self.network.dt, unit="ms", title=title)

    def summary(self) -> str:
        """Return the result in a few lines."""
        n = self.numbers()
        lines = [
            f"{n['neurons']:,} neurons, {n['synapses']:,} synapses of {n['bytes_per_synapse']:.1f} bytes, built in "
            f"{self.build_seconds:.2f} s",
            f"{self.settings.seconds:g} s of biological time: {n['seconds_per_second']:.2f} s a second "
            f"({n['processes']} processes, {n['threads']} threads), {n['spikes']:,} spikes",
        ]
        lines += [f"{name}: {rate:.2f} Hz, CV {self.cv[name]:.2f}" for name, rate in self.rates.items()]
        return "\n".join(lines)
