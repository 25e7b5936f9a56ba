"""Training by BP-STDP (Tavanaei and Maida 2019) on XOR, Iris, digits and MNIST."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast.encoder import BernoulliEncoder, desired_times
from snnfast.monitoring import Monitor
from snnfast.nn.loss import bp_stdp_loss
from snnfast.ops import Rates
from snnfast_zoo.train import Run, evaluate, fit, samples
from snnfast_zoo.train.figures import curves
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.score import Part, Score

from .model import SAMPLES_A_CALL, SECOND, TavanaeiAndMaida2017
from .settings import ENCODINGS, BpStdpSettings, chosen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

XOR_PRESENTATIONS = 25  # presentations of each pattern in scoring


def load(
    settings: BpStdpSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return the data of a run as intensities ``[N, F]`` in [0, 1], of :mod:`snnfast_zoo.train.samples`.

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


def ready(settings: BpStdpSettings, x: Tensor) -> Tensor:
    """Return intensities; those of Iris are divided by the largest value of the training part."""
    iris = settings.dataset == "iris"
    largest = samples.load(settings).train[0].max() if iris else torch.ones(())
    return _scaled(settings, largest, x.flatten(1))


def model(settings: BpStdpSettings, data: Data) -> EncodedNetwork:
    """Return encoder and network."""
    encoder = ENCODINGS[settings.encoding](settings.num_steps, settings.scale, dtype=torch.uint8)
    network = TavanaeiAndMaida2017(
        data.train[0].shape[1],
        settings.hidden,
        samples.classes(settings.dataset, data),
        std=settings.std if len(settings.std) > 1 else settings.std[0],
    )
    return EncodedNetwork(encoder, network).to(data.device)


def train(settings: BpStdpSettings, place: Place) -> Result:
    """Train, score the held-out samples, and for XOR count the cycles until it was learned."""
    with place.reading() as where:
        data = load(settings, **where)
    torch.manual_seed(settings.seed)
    spiking = model(settings, data)
    run = Run(spiking, score=Score(most_spikes))
    figures = {"curves": curves(settings, "BP-STDP"), "raster": lambda run: raster(spiking, data.held_out)}
    place.begin(run, data, figures)

    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        spikes, desired = spiking.encode(x), _desired(settings, labels)
        answer = spiking.network.learn(
            spikes,
            labels,
            desired,
            dt=SECOND,
            lr=learning_rate(settings, run.epoch),
            epsilon=settings.epsilon,
            update=settings.update,  # type: ignore[arg-type]
            batch=settings.batch_size,
        ).spikes
        return answer, _loss(settings, answer, labels, desired)

    def loss(spikes: Tensor, labels: Tensor) -> Tensor:
        return _loss(settings, spikes, labels, _desired(settings, labels))

    fit(
        run,
        data.train,
        data.held_out,
        epochs=settings.epochs,
        batch_size=samples_a_call(settings),
        loss=loss,
        augment=(lambda x, y: (samples.moved(x, settings.shift), y)) if settings.shift else None,
        step=step,
        output=place,
    )
    accuracy = evaluate(spiking, data.held_out, loss=loss, decide=most_spikes).accuracy
    measured = {"converged": converged(settings, [row["held_out_accuracy"] for row in run.history])}
    revival = "another --scale or --std, or a lower --lr"
    return place.finish(run, data, accuracy, measured, revival=revival, watch=partial(watch, spiking))


def answers(settings: BpStdpSettings, model: nn.Module, x: Tensor, folder: Path) -> Tensor:
    """Return the labels of intensities."""
    return most_spikes(model(x))


def watch(model: EncodedNetwork, x: Tensor) -> Monitor:
    """Return a monitor that recorded the network for samples ``x``."""
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


class EncodedNetwork(nn.Module):
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

    def answer(self, spikes: Tensor | Rates) -> Tensor:
        """Return output spikes ``[T, B, classes]`` without learning."""
        return self.network.present(spikes, dt=SECOND).spikes


def _scaled(settings: BpStdpSettings, largest: Tensor, x: Tensor) -> Tensor:
    """Scale features ``[N, F]`` to intensities."""
    if settings.dataset == "iris":
        return (x / largest.to(x)).clamp(max=1)
    return 0.2 + 0.8 * x if settings.dataset == "xor" else x


def most_spikes(spikes: Tensor) -> Tensor:
    """The class of the output with the most spikes, of ``[T, B, classes]``."""
    return spikes.sum(0).argmax(1)


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


bp_stdp = Procedure(
    *("bp-stdp", BpStdpSettings, chosen, load, model, train, ready, answers),
    paper="Tavanaei and Maida 2019",
    network="TavanaeiAndMaida2017",
    own_preset="digits",
    work="plasticity",
)
