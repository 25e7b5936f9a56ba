"""Training by STDP (Diehl and Cook 2015) on digits and MNIST without labels; then neurons are labelled."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from snnfast import ops
from snnfast.learning.labels import assignment, class_sums, predict
from snnfast.monitoring import Monitor
from snnfast_zoo.data.own import label_of
from snnfast_zoo.train import Run, Score
from snnfast_zoo.train.runs import images
from snnfast_zoo.train.runs.figures import Draw
from snnfast_zoo.train.runs.repeats import Trial
from snnfast_zoo.train.runs.result import Result
from snnfast_zoo.train.runs.run import WATCHED, Data
from snnfast_zoo.train.runs.together import Together, in_groups, side_by_side

from . import networks, readout
from .model import DiehlAndCook2015
from .options import StdpSettings
from .settings import shared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION_IMAGES = 10_000  # the last images of the training set of MNIST
RECENT_IMAGES = 10_000  # approximate number of images that determine the labels of the running accuracy


class Stdp(Together[StdpSettings]):
    """Spike-timing-dependent plasticity (Diehl and Cook 2015): trains, labels the neurons, scores."""

    name, title, Settings = "stdp", "STDP", StdpSettings
    paper, network_name = "Diehl and Cook 2015", "DiehlAndCook2015"
    own_preset = "mnist"
    work = "plasticity"
    figures_within_epochs = True

    def chosen(self, dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return no changes: the preset of the network has the settings."""
        return {}

    def load(
        self,
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
        whole = len(pixels)
        n = whole - VALIDATION_IMAGES if whole > VALIDATION_IMAGES else whole // 2
        return Data((pixels[:n], labels[:n]), (pixels[n:], labels[n:]), "validation")

    def model(self, settings: StdpSettings, data: Data) -> DiehlAndCook2015:
        """Return the untrained network."""
        pixels = data.train[0]
        chosen = settings.network(len(pixels))
        return DiehlAndCook2015(settings.neurons, pixels.shape[1:], chosen).to(data.device)

    def counts(self, settings: StdpSettings, data: Data) -> Score:
        """Return the score: running accuracy and spike counts."""
        return Responses(settings.neurons, images.classes(settings.dataset, data), data.device)

    def learning(self, settings: StdpSettings, run: Run, data: Data) -> dict[str, Any]:
        """Return the arguments of :func:`snnfast.train.fit`."""
        n, model = len(data.train[0]), cast(DiehlAndCook2015, run.model)
        size = cast(int, settings.images_per_call)
        drawn = functools.lru_cache(1)(partial(networks.draw, settings.seed, n))

        def step(pixels: Tensor, labels: Tensor) -> tuple[Tensor, None]:
            model.set_progress((run.epoch * n + run.images) / (settings.epochs * n))
            seeds = drawn(run.epoch)[1][run.images : run.images + len(pixels)]
            return model.present(pixels * model.settings.intensity, seeds=seeds).counts, None

        return {
            "held_out": None,  # the network predicts nothing before its neurons have labels
            "batch_size": size,
            "step": step,
            "order": lambda epoch: drawn(epoch)[0],
        }

    def result(
        self, settings: StdpSettings, run: Run, data: Data, out: Path | None = None, *, progress: bool | None = None
    ) -> Result:
        """Label the neurons by training images, and score the held-out images."""
        labels = readout.assign(settings, run, data, out, progress=progress)
        result = readout.infer(settings, run, data, labels, out, progress=progress)
        self.keep(result)
        return result

    def answers(self, settings: StdpSettings, model: nn.Module, x: Tensor, folder: Path) -> Tensor:
        """Return the mean vote of the neurons, by the labels in ``folder``."""
        assigned = readout.assignment(folder, x.device)
        counts = readout.responses(cast(DiehlAndCook2015, model), x, settings.seed, "infer", False)
        return predict(counts, assigned, vote="mean")

    def at_once(self, settings: StdpSettings, device: torch.device | str) -> int:
        """Return the number of networks that run in parallel; 1 if images are presented again."""
        return 1 if settings.network(1).min_spikes else side_by_side(device)

    def several(self, every: Sequence[StdpSettings], *, progress: bool | None = None, **where: Any) -> list[Trial]:
        """Train runs as networks of one model, grouped by the settings that networks of a model must share."""

        def trials(group: list[StdpSettings]) -> list[Trial]:
            data = self.load(group[0], **where)
            return [Trial(accuracy) for accuracy in networks.train(group, data, progress=progress)]

        return in_groups(every, shared_settings, trials)

    def watch(self, settings: StdpSettings, run: Run, data: Data) -> Monitor:
        """Return a monitor that recorded one presentation of each of the first held-out samples."""
        model = cast(DiehlAndCook2015, run.model)
        rates = data.held_out[0][:WATCHED] * (model.settings.intensity * model.settings.neurons.dt)
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

    def figures(self, settings: StdpSettings, run: Run, data: Data) -> dict[str, Draw]:
        """Return receptive fields, and curves over the calls."""
        return {"receptive_fields": partial(receptive_fields, settings), "curves": partial(self.curves, settings)}

    def curves(self, settings: StdpSettings, run: Run) -> Figure | None:
        """Draw running accuracy and spikes per image over the calls of a run; None before the second call."""
        from snnfast_zoo import visual

        calls = [row for row in cast(Responses, run.score).calls if "accuracy" in row]
        if not calls:
            return None
        series = {
            "training_accuracy": [row["accuracy"] for row in calls],
            "spikes_an_image": [row["spikes"] for row in calls],
        }
        title = f"STDP, {label_of(settings.dataset)}, {settings.neurons} neurons"
        return visual.curves(series, xlabel=f"Images / {settings.images_per_call}", title=title)

    def folder(self, settings: StdpSettings) -> str:
        """Return the name of the folder of results."""
        return f"{super().folder(settings)}-{settings.neurons}"


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
    title = f"{settings.neurons} neurons, epoch {run.epoch + (run.images > 0)}"
    # Channels are drawn one below the other.
    return visual.receptive_fields(model.xe.w, shape=(channels * height, width), title=title)


def shared_settings(settings: StdpSettings) -> str:
    """Return a key of the settings that runs of one model must share."""
    common = replace(settings, seed=0, lr=None, lr_final=None, theta_plus=None, norm=None, changes={})
    return repr((common, shared(settings.network(1))))
