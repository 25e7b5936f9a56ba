"""Training by STDP (Diehl and Cook 2015) on digits and MNIST without labels; then neurons are labelled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from snnfast import ops
from snnfast.learning.labels import assignment, class_sums, predict
from snnfast.monitoring import Monitor
from snnfast_zoo.train import Run, Score, images
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.progress import progress_bar
from snnfast_zoo.train.result import Result

from . import readout
from .model import DiehlAndCook2015
from .options import StdpSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION_IMAGES = 10_000  # the last images of the training set of MNIST
RECENT_IMAGES = 10_000  # approximate number of images that determine the labels of the running accuracy


def load(
    settings: StdpSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return the images of a run; the validation split of MNIST is the last 10,000 training images."""
    if not settings.validate or settings.dataset != "mnist":
        return images.load(settings, root, download=download, device=device, unit=True)
    pixels, labels = images.part(settings.dataset, "train+val", root, download, device)
    count = len(pixels)
    n = count - VALIDATION_IMAGES if count > VALIDATION_IMAGES else count // 2
    return Data((pixels[:n], labels[:n]), (pixels[n:], labels[n:]), "validation")


def model(settings: StdpSettings, data: Data) -> DiehlAndCook2015:
    """Return the untrained network."""
    pixels = data.train[0]
    return DiehlAndCook2015(settings.neurons, pixels.shape[1:], settings.network(len(pixels))).to(data.device)


def train(settings: StdpSettings, place: Place) -> Result:
    """Train without labels, label the neurons by training images, and score the held-out images."""
    place.processes.refuse_several("stdp")
    with place.reading() as where:
        data = load(settings, **where)
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    responses = Responses(settings.neurons, images.classes(settings.dataset, data), data.device)
    run = Run(network, score=responses)
    place.begin(
        run, data, {"receptive_fields": partial(receptive_fields, settings), "curves": partial(curves, settings)}
    )
    pixels, labels = data.train
    n, size = len(pixels), cast(int, settings.images_per_call)
    while run.epoch < settings.epochs:
        title, start = f"epoch {run.epoch + 1}/{settings.epochs}", time.perf_counter()
        order, seeds = draw(settings.seed, n, run.epoch)
        network.train()
        responses.start()
        with progress_bar(title, n, progress=place.progress) as bar:
            for first in range(0, n, size):
                chosen = order[first : first + size].to(data.device)
                network.set_progress((run.epoch * n + first) / (settings.epochs * n))
                rates = pixels[chosen] * network.settings.intensity
                counts = network.present(rates, seeds=seeds[first : first + size]).counts
                responses.add(counts, labels[chosen], None)
                if bar.update(len(chosen)):
                    bar.set_postfix_str(str(responses), refresh=False)
                place.draw(run)
        place.end_epoch(run, title, {**responses.row(), "seconds": time.perf_counter() - start})
    assigned = readout.assign(settings, run, data, place.out, progress=place.progress)
    scored = readout.infer(settings, run, data, assigned, place.out, progress=place.progress)
    watched = partial(watch, network)
    return place.finish(run, data, scored.accuracy, scored.measured, scored.remarks, watch=watched)


def answers(settings: StdpSettings, network: nn.Module, x: Tensor, folder: Path) -> Tensor:
    """Return the mean vote of the neurons, by the labels in ``folder``."""
    assigned = readout.assignment(folder, x.device)
    counts = readout.responses(cast(DiehlAndCook2015, network), x, settings.seed, "infer", False)
    return predict(counts, assigned, vote="mean")


def watch(model: DiehlAndCook2015, pixels: Tensor) -> Monitor:
    """Return a monitor that recorded one presentation of each image."""
    rates = pixels * (model.settings.intensity * model.settings.neurons.dt)
    p = (rates.flatten(1) / 1000).clamp(max=1)
    with torch.random.fork_rng([]):  # seeds are drawn on the CPU
        spikes = ops.poisson(p, model.settings.num_steps, dtype=torch.uint8)
    model.eval()
    fired = model.present(spikes.transpose(0, 1), return_spikes=True).spikes
    watching = Monitor(model)
    watching.off()  # one kernel runs the network, without hooks
    watching.samples = len(p)
    watching.add_linear("xe", "synapses", spikes, model.xe.w)
    watching.add_spikes("exc", "excitatory", cast(Tensor, fired).transpose(0, 1))
    return watching


def curves(settings: StdpSettings, run: Run) -> Figure | None:
    """Draw running accuracy and spikes per image over the calls of a run; None before the second call."""
    from snnfast_zoo import visual

    calls = [row for row in cast(Responses, run.score).calls if "accuracy" in row]
    if not calls:
        return None
    series = {
        "training_accuracy": [row["accuracy"] for row in calls],
        "spikes_an_image": [row["spikes"] for row in calls],
    }
    title = f"STDP, {settings.label}, {settings.neurons} neurons"
    return visual.curves(series, xlabel=f"Images / {settings.images_per_call}", title=title)


class Responses(Score):
    """Responses of the neurons while they learn.

    Attributes:
        sums: spikes of every neuron by class of the recent images ``[N, C]``.
        seen: number of these images by class ``[C]``.
        calls: one dictionary per call: ``accuracy`` (by labels from the images before it; absent in the first),
            ``spikes`` per image, ``silent`` (share of the images without a spike).
    """

    def __init__(self, neurons: int, classes: int, device: torch.device) -> None:
        self.sums = torch.zeros((neurons, classes), dtype=torch.float64, device=device)
        self.seen = torch.zeros_like(self.sums[0])
        self.calls: list[dict[str, float]] = []
        super().__init__()

    def __str__(self) -> str:
        row = self.calls[-1]
        running = f"running accuracy {100 * row['accuracy']:.1f} %, " if "accuracy" in row else ""
        return f"{running}{row['spikes']:.1f} spikes an image, {100 * row['silent']:.1f} % silent"

    def start(self) -> None:
        """Begin an epoch."""
        super().start()
        self._before = len(self.calls)

    def add(self, outputs: Tensor, labels: Tensor, loss: Tensor | None) -> None:
        """Add a call; ``outputs`` are its spike counts ``[P, N]``."""
        spikes = outputs.sum(1)
        row = {"spikes": float(spikes.double().mean()), "silent": float((spikes == 0).double().mean())}
        if bool(self.sums.any()):
            predicted = predict(outputs, assignment(self.sums, self.seen))
            row["accuracy"] = float((predicted == labels).double().mean())
        self.calls.append(row)
        self.images += len(labels)
        keep = max(0.0, 1 - len(labels) / RECENT_IMAGES)
        sums, seen = class_sums(outputs, labels, len(self.seen))
        self.sums, self.seen = keep * self.sums + sums, keep * self.seen + seen

    def row(self) -> dict[str, float]:
        """Return the means over the calls of the epoch."""
        calls = self.calls[self._before :]
        columns = {n: [c[n] for c in calls if n in c] for n in ("accuracy", "spikes", "silent")}
        return {name: sum(values) / len(values) for name, values in columns.items() if values}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        names = ("images", "sums", "seen", "calls")
        return {"before": self._before, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue counting from a saved state."""
        self.images, self._before, self.calls = (state[k] for k in ("images", "before", "calls"))
        self.sums, self.seen = (state[k].to(self.sums.device) for k in ("sums", "seen"))


def receptive_fields(settings: StdpSettings, run: Run) -> Figure:
    """Draw the weights of every neuron as an image."""
    from snnfast_zoo import visual

    model = cast(DiehlAndCook2015, run.model)
    channels, height, width = model.input_shape
    title = f"{settings.neurons} neurons, epoch {run.epoch}"
    # Channels are drawn one below the other.
    return visual.receptive_fields(model.xe.w, shape=(channels * height, width), title=title)


def draw(seed: int, images: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Draw the order of the images in an epoch and the seeds of their spikes."""
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(images, generator=generator)
    return order, torch.randint(2**63 - 1, (images,), generator=generator)


stdp = Procedure(
    *("stdp", StdpSettings, lambda dataset, changes: {}, load, model, train),
    answers=answers,
    paper="Diehl and Cook 2015",
    network="DiehlAndCook2015",
    own_preset="mnist",
    work="plasticity",
    suffix=lambda settings: f"-{settings.neurons}",
)
