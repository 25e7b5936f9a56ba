"""Training by BP-STDP (Tavanaei and Maida 2019) on XOR, Iris, digits and MNIST."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.encoder import BernoulliEncoder, RegularEncoder, desired_times
from snnfast.monitoring import Monitor
from snnfast.nn.loss import bp_stdp_loss
from snnfast.ops import Rates
from snnfast_zoo.train import Run, Step, progress_bar
from snnfast_zoo.train.runs import samples
from snnfast_zoo.train.runs.figures import Draw
from snnfast_zoo.train.runs.repeats import Trial
from snnfast_zoo.train.runs.run import WATCHED, Data
from snnfast_zoo.train.runs.settings import SOURCES, FoldedSettings, option
from snnfast_zoo.train.runs.together import Together, in_groups, side_by_side
from snnfast_zoo.train.score import EVALUATED, Decide, Part

from .model import SAMPLES_A_CALL, SECOND, TavanaeiAndMaida2017, preset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATASETS = ("xor", "iris", "digits", "mnist")
ENCODINGS = {"regular": RegularEncoder, "bernoulli": BernoulliEncoder}
Drawn = tuple[Tensor | Rates, Tensor, Tensor]  # spikes, labels, desired times
XOR_PRESENTATIONS = 25  # presentations of each pattern in scoring


@dataclass(frozen=True, kw_only=True)
class BpStdpSettings(FoldedSettings):
    """Settings of a run of BP-STDP. A step is 1 ms."""

    name = "bp-stdp"

    dataset: str = option(
        "digits",
        f"digits, iris, xor (all in the package), mnist, or your own images: {SOURCES}.",
        choices=DATASETS,
        user_data=True,
    )
    encoding: str = option("regular", "Input spikes: regular or bernoulli.", choices=tuple(ENCODINGS))
    num_steps: int = option(50, "Steps of a presentation.", least=1, flag="--steps")
    scale: float = option(2.0, "Intensity that fires in every step.", above=0)
    hidden: tuple[int, ...] = option((100,), "Hidden neurons; repeat for more layers.", least=1)
    std: tuple[float, ...] = option(
        (1.0,), "Standard deviation of the initial weights; one for all layers, or repeat for each layer.", least=0
    )
    epsilon: int = option(4, "Steps that a window reaches back.", least=1)
    beta: float = option(250.0, "Rate at which the right output should fire, Hz.", least=0, most=1000)
    update: str = option(
        "step",
        "When the weights change: in every step, as in the paper, or after each sequence.",
        choices=("step", "sequence"),
    )
    shift: int = option(0, "Move images by up to this many pixels, anew in each epoch.", least=0)
    epochs: int = option(20, "Passes over the training data.", least=0)
    batch_size: int = option(1, "Samples that see the same weights.", least=1)
    lr: float = option(0.0005, "Initial learning rate.", above=0)
    cosine: bool = option(True, "Lower the learning rate to 0 along a cosine.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == "xor" and (self.validate or self.folds):
            raise ValueError("bp-stdp: xor has four patterns: no validation, no folds")
        images = samples.IMAGES
        self._only("shift", self.dataset in images, " and ".join(images), self.dataset)
        if len(self.std) not in (1, len(self.hidden) + 1):
            raise ValueError(
                f"bp-stdp: std must be one number, or one a layer, {len(self.hidden) + 1}, got {len(self.std)}"
            )


class BpStdp(Together[BpStdpSettings]):
    """BP-STDP (Tavanaei and Maida 2019)."""

    name, title, Settings = "bp-stdp", "BP-STDP", BpStdpSettings
    paper, network_name = "Tavanaei and Maida 2019", "TavanaeiAndMaida2017"
    own_preset = "digits"
    revival = "another --scale or --std, or a lower --lr"
    work = "plasticity"

    def chosen(self, dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of docs/results.md; a user's images get those of the digits."""
        dataset = dataset if dataset in DATASETS else "digits"
        network = preset(dataset, changes.get("hidden"))
        hidden, std = network["hidden"], network["std"]
        chosen = {"hidden": hidden, "std": std if isinstance(std, tuple) else (std,)}
        if dataset == "xor":
            chosen |= {"epochs": 100, "lr": 0.01, "cosine": False}
        elif dataset == "iris":
            chosen |= {"scale": 0.7, "epochs": 60, "lr": 0.003}
        elif dataset == "digits":
            chosen |= {"update": "sequence", "batch_size": 20, "lr": 1e-3}
        elif dataset == "mnist":
            chosen |= {"encoding": "bernoulli", "update": "sequence", "batch_size": 20, "lr": 4e-4}
            chosen |= {"epochs": 8} if len(hidden) == 1 else {"shift": 1, "epochs": 16}
        return chosen

    def load(
        self,
        settings: BpStdpSettings,
        root: str | Path | None = None,
        *,
        download: bool = False,
        device: torch.device | str = "cpu",
    ) -> Data:
        """Return the data of a run as intensities ``[N, F]`` in [0, 1], of :mod:`snnfast_zoo.train.runs.samples`.

        Features of Iris are divided by the largest value in the training part. This keeps their proportions, which a
        network without bias can distinguish. Features of XOR are 0.2 for false and 1 for true, and every pattern is
        scored several times, because its spikes are random.
        """
        parts = samples.load(settings, root, download=download)
        scale = partial(_scaled, settings, parts.train[0].max())

        def part(values: Part) -> Part:
            x, labels = values
            return scale(x).to(device), labels.to(device)

        train, held_out = part(parts.train), part(parts.held_out)
        if settings.dataset == "xor":
            x, labels = held_out
            held_out = x.repeat(XOR_PRESENTATIONS, 1), labels.repeat(XOR_PRESENTATIONS)
        return Data(train, held_out, parts.split, parts.raw)

    def ready(self, settings: BpStdpSettings, x: Tensor) -> Tensor:
        """Return intensities; those of Iris are divided by the largest value of the training part."""
        iris = settings.dataset == "iris"
        largest = samples.load(settings).train[0].max() if iris else torch.ones(())
        return _scaled(settings, largest, x.flatten(1))

    def model(self, settings: BpStdpSettings, data: Data, every: Sequence[BpStdpSettings] | None = None) -> Spiking:
        """Return encoder and network; with ``every``, a model with one network per run."""
        encoder = ENCODINGS[settings.encoding](settings.num_steps, settings.scale, dtype=torch.uint8)
        layers = len(settings.hidden) + 1
        stds = (run.std for run in every or (settings,))
        std = [values * layers if len(values) == 1 else values for values in stds]
        network = TavanaeiAndMaida2017(
            data.train[0].shape[1],
            settings.hidden,
            samples.classes(settings.dataset, data),
            std=std[0] if every is None else list(zip(*std)),
            networks=None if every is None else len(every),
            seeds=None if every is None else [run.seed for run in every],
        )
        return Spiking(encoder, network).to(data.device)

    def decide(self, settings: BpStdpSettings) -> Decide:
        """The class of the output with the most spikes, of ``[T, B, classes]``."""
        return most_spikes

    def learning(self, settings: BpStdpSettings, run: Run, data: Data) -> dict[str, Any]:
        """Return the arguments of :func:`snnfast.train.fit`."""

        def loss(spikes: Tensor, labels: Tensor) -> Tensor:
            return _loss(settings, spikes, labels, _desired(settings, labels))

        return {
            "batch_size": samples_a_call(settings),
            "loss": loss,
            "step": presenting(settings, run),
            "augment": partial(samples.moved, shift=settings.shift) if settings.shift else None,
        }

    def measured(self, settings: BpStdpSettings, run: Run, data: Data) -> tuple[dict[str, Any], list[str]]:
        """Return the cycles until XOR was learned."""
        accuracies = [row["held_out_accuracy"] for row in run.history]
        return {"converged": converged(settings, accuracies)}, []

    def at_once(self, settings: BpStdpSettings, device: torch.device | str) -> int:
        """Return the number of networks that run in parallel."""
        return side_by_side(device)

    def several(self, every: Sequence[BpStdpSettings], *, progress: bool | None = None, **where: Any) -> list[Trial]:
        """Train runs as networks of one model, grouped by sizes and settings that the networks must share."""
        loaded: dict[BpStdpSettings, Data] = {}

        def data(settings: BpStdpSettings) -> Data:
            same = _shared(settings)
            if same not in loaded:
                loaded[same] = self.load(settings, **where)
            return loaded[same]

        def key(settings: BpStdpSettings) -> object:
            train, held_out = data(settings).train[0], data(settings).held_out[0]
            classes = samples.classes(settings.dataset, data(settings))
            return _shared(_uncut(settings)), len(train), len(held_out), classes

        def trials(group: list[BpStdpSettings]) -> list[Trial]:
            model = self.model(group[0], data(group[0]), group)
            size = samples_a_call(group[0])
            last, epochs = _train(group, model, [data(settings) for settings in group], size, progress=progress)
            return [
                Trial(float(last[k]), converged(settings, [float(accuracies[k]) for accuracies in epochs]))
                for k, settings in enumerate(group)
            ]

        return in_groups(every, key, trials)

    def watch(self, settings: BpStdpSettings, run: Run, data: Data) -> Monitor:
        """Return a monitor that recorded the network for the first held-out samples."""
        model, x = cast(Spiking, run.model), data.held_out[0][:WATCHED]
        with torch.random.fork_rng([]):  # encoders draw on the CPU
            spikes = model.encoder(x)
        answer = model.network.present(spikes, dt=SECOND, return_hidden=True)
        watching = Monitor(model)
        watching.off()  # one kernel runs all layers, without hooks
        watching.samples = len(x)
        for layer, fired in zip(model.network.layers, (*(answer.hidden or ()), answer.spikes)):
            place, kind = next(n for n, m in model.named_modules() if m is layer), "IF"
            watching.add_linear(place, kind, spikes, layer.weight)
            watching.add_spikes(place, kind, fired)
            spikes = fired
        return watching

    def figures(self, settings: BpStdpSettings, run: Run, data: Data) -> dict[str, Draw]:
        """Return curves, and a raster for the first held-out sample."""
        return {**super().figures(settings, run, data), "raster": lambda run: raster(run.model, data.held_out)}


class Spiking(nn.Module):
    """Encoder and network, from intensities ``[B, F]`` to output spikes ``[T, B, classes]``."""

    def __init__(self, encoder: nn.Module, network: TavanaeiAndMaida2017) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network

    def forward(self, x: Tensor) -> Tensor:
        """Present the samples without learning."""
        return self.answer(self.encode(x))

    def encode(self, x: Tensor) -> Tensor | Rates:
        """Return spikes ``[T, B, F]``, or the rates from which the op draws them."""
        if isinstance(self.encoder, BernoulliEncoder):
            return self.encoder.rates(x)
        return self.encoder(x)  # type: ignore[no-any-return]

    def drawn(self, settings: BpStdpSettings, x: Tensor, labels: Tensor) -> Drawn:
        """Return spikes of the samples ``x``, their labels, and the desired spike times of the outputs."""
        return self.encode(x), labels, _desired(settings, labels)

    def answer(self, spikes: Tensor | Rates) -> Tensor:
        """Return output spikes ``[T, B, classes]`` without learning."""
        return self.network.present(spikes, dt=SECOND).spikes

    def learn(
        self, every: Sequence[BpStdpSettings], epoch: int, spikes: Tensor | Rates, labels: Tensor, desired: Tensor
    ) -> Tensor:
        """Present samples in one call, learning after each batch; return the output spikes.

        ``every``: the settings of each network.
        """
        settings, rates = every[0], [learning_rate(run, epoch) for run in every]
        return self.network.learn(
            spikes,
            labels,
            desired,
            dt=SECOND,
            lr=rates if len(set(rates)) > 1 else rates[0],
            epsilon=settings.epsilon,
            update=settings.update,  # type: ignore[arg-type]
            batch=settings.batch_size,
        ).spikes


def _scaled(settings: BpStdpSettings, largest: Tensor, x: Tensor) -> Tensor:
    """Scale features ``[N, F]`` to intensities."""
    if settings.dataset == "iris":
        return (x / largest.to(x)).clamp(max=1)
    return 0.2 + 0.8 * x if settings.dataset == "xor" else x


def most_spikes(spikes: Tensor) -> Tensor:
    """The class of the output with the most spikes, of ``[T, B, classes]``."""
    return spikes.sum(0).argmax(1)


def presenting(settings: BpStdpSettings, run: Run) -> Step:
    """Return the training step: present samples in one call, learning after each batch."""
    model = cast(Spiking, run.model)

    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        spikes, labels, desired = model.drawn(settings, x, labels)
        answer = model.learn([settings], run.epoch, spikes, labels, desired)
        return answer, _loss(settings, answer, labels, desired)

    return step


def samples_a_call(settings: BpStdpSettings) -> int:
    """Return the number of samples per call: several batches, to amortise the cost of a call."""
    return max(1, SAMPLES_A_CALL // settings.batch_size) * settings.batch_size


def learning_rate(settings: BpStdpSettings, epoch: int) -> float:
    """Return the learning rate of epoch 0, 1, ...: half a cosine from ``settings.lr`` to 0, or constant."""
    if not settings.cosine:
        return settings.lr
    return settings.lr * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def _desired(settings: BpStdpSettings, labels: Tensor) -> Tensor:
    return desired_times(len(labels), settings.beta, settings.num_steps).to(labels.device)


def _loss(settings: BpStdpSettings, spikes: Tensor, labels: Tensor, desired: Tensor) -> Tensor:
    wanted = desired[..., None] & F.one_hot(labels, spikes.shape[2]).bool()
    return bp_stdp_loss(spikes, wanted, labels, settings.epsilon)


def converged(settings: BpStdpSettings, accuracies: Sequence[float]) -> int | None:
    """Return the cycles until XOR was learned: every presentation of every pattern is correct from the last one on.

    Args:
        settings: the settings of the run.
        accuracies: held-out accuracy after every epoch.
    """
    if settings.dataset != "xor" or not accuracies:
        return None
    wrong = [epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy < 1]
    cycles = max(wrong, default=0) + 1
    return cycles if cycles <= len(accuracies) else None


def raster(model: nn.Module, part: Part) -> Figure:
    """Draw the spikes of the outputs for the first sample of ``part``."""
    from snnfast_zoo import visual

    x, labels = part
    with torch.random.fork_rng([]):  # encoders draw on the CPU
        spikes = model(x[:1])
    title = f"class {int(labels[0])}, seen as {int(most_spikes(spikes))}: spikes of the outputs"
    return visual.raster(spikes, unit="ms", title=title)


def _train(
    every: Sequence[BpStdpSettings], model: Spiking, data: Sequence[Data], size: int, *, progress: bool | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Train ``model``, ``size`` samples per call; every network draws the random numbers of a run trained alone.

    Args:
        every: the settings of each run.
        model: a model with one network per run.
        data: the data of each run, with equal numbers of samples.
        size: samples per call.
        progress: progress bar; see :func:`snnfast.train.fit`.

    Returns:
        The held-out accuracy of each run ``[K]``, in [0, 1], bit for bit that of the run trained alone; for XOR also
        the accuracies after every epoch.
    """
    draws, settings, held_out = model.network.draws, every[0], [run.held_out for run in data]
    n, epochs = len(data[0].train[0]), []
    title = f"train {len(every)} networks"
    with progress_bar(title, settings.epochs * n, progress=progress) as bar:
        for epoch in range(settings.epochs):
            order = torch.stack(draws.per_network(lambda _: torch.randperm(n)))
            for indices in order.split(size, 1):
                chosen = indices.to(model.network.weights[0].device)

                def drawn(k: int, chosen: Tensor = chosen) -> Drawn:
                    images, labels = (values[chosen[k]] for values in data[k].train)
                    if every[k].shift:
                        images = samples.moved(images, every[k].shift)
                    return model.drawn(every[k], images, labels)

                model.learn(every, epoch, *_stacked(draws.per_network(drawn)))
                bar.update(chosen.shape[1])
            if settings.dataset == "xor":
                epochs.append(_scored(every, model, held_out, size))
    return _scored(every, model, held_out, EVALUATED), epochs


def _scored(every: Sequence[BpStdpSettings], model: Spiking, parts: Sequence[Part], size: int) -> Tensor:
    """Return the accuracy of each network ``[K]``, with the draws of :func:`snnfast.train.evaluate` for it alone."""
    draws, count = model.network.draws, len(parts[0][1])
    right: int | Tensor = 0
    with draws.put_back():
        for first in range(0, count, size):

            def drawn(k: int, first: int = first) -> Drawn:
                x, labels = (values[first : first + size] for values in parts[k])
                return model.drawn(every[k], x, labels)

            spikes, labels, _ = _stacked(draws.per_network(drawn))
            right = right + (model.answer(spikes).sum(1).argmax(-1) == labels).sum(1)
    return torch.as_tensor(right).double() / max(count, 1)


def _shared(settings: BpStdpSettings) -> BpStdpSettings:
    """Return the settings that networks of one model must share, besides the data."""
    return replace(settings, seed=0, lr=1.0, cosine=True, beta=0.0, shift=0, std=(1.0,))


def _uncut(settings: BpStdpSettings) -> BpStdpSettings:
    """Return the settings without those of the split of the data."""
    return replace(settings, fold=0, split_seed=0)


def _stacked(drawn: Sequence[Drawn]) -> Drawn:
    """Stack the inputs drawn for each network along a first dimension of networks."""
    spikes, labels, desired = zip(*drawn)
    first = spikes[0]
    if isinstance(first, Rates):
        hz, seeds = (torch.stack([getattr(s, name) for s in spikes]) for name in ("hz", "seeds"))
        return first._replace(hz=hz, seeds=seeds), torch.stack(labels), torch.stack(desired)
    return torch.stack(spikes), torch.stack(labels), torch.stack(desired)
