"""Comparison of a spiking network with the ReLU network it was converted from, layer by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.files.table import markdown

from .loader import checked_labels, each_batch, images_and_labels
from .network import SpikingNetwork, increasing
from .stream import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class LayerReport:
    """Statistics of a layer of neurons after the last step, over all images.

    Attributes:
        place: position in the model.
        neurons: number of neurons.
        threshold: mean threshold, in units of the activations.
        correlation: correlation of activation and ``rate * threshold``, over neurons and images; NaN if one of them is
            constant.
        error: root mean square of their difference, as a fraction of the root mean square activation.
        rate: spikes per step and neuron.
        spikes: spikes per image.
        dead: fraction of the neurons that fired for no image.
        saturated: fraction of the neurons that fired at every step for some image.
    """

    place: str
    neurons: int
    threshold: float
    correlation: float
    error: float
    rate: float
    spikes: float
    dead: float
    saturated: float


@dataclass(frozen=True)
class ProductReport:
    """Operations of a Linear or convolution.

    Attributes:
        place: position in the model.
        synaptic_operations: additions of a weight per image: one for every synapse of an input that is not 0, at every
            step. The product of a constant input runs once; its multiplications count instead.
        multiplications: multiplications of the ReLU network per image.
    """

    place: str
    synaptic_operations: float
    multiplications: float


@dataclass(frozen=True)
class ConversionReport:
    """Result of :func:`conversion_report`.

    Attributes:
        layers: one entry per layer of neurons.
        products: one entry per Linear or convolution.
        steps: numbers of steps.
        accuracy: accuracy of the spiking network after each number of steps, in [0, 1]; without labels the fraction of
            images on which it agrees with the ReLU network.
        ann_accuracy: accuracy of the ReLU network; 1 without labels.
        images: number of images.
        labelled: whether there were labels.
    """

    layers: tuple[LayerReport, ...]
    products: tuple[ProductReport, ...]
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]
    ann_accuracy: float
    images: int
    labelled: bool

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return three Markdown tables."""
        layers = [
            (
                r.place,
                str(r.neurons),
                f"{r.threshold:.3g}",
                f"{r.correlation:.4f}",
                f"{r.error:.3f}",
                f"{r.rate:.4f}",
                f"{r.spikes:.4g}",
                f"{100 * r.dead:.1f} %",
                f"{100 * r.saturated:.1f} %",
            )
            for r in self.layers
        ]
        head = "neurons at|neurons|threshold|correlation|error|rate|spikes|dead|saturated"
        products = [(r.place, f"{r.synaptic_operations:.4g}", f"{r.multiplications:.4g}") for r in self.products]
        quantity = "accuracy" if self.labelled else "agreement"
        accuracy = [(str(s), f"{100 * a:.2f} %") for s, a in zip(self.steps, self.accuracy)]
        accuracy.append(("ANN", f"{100 * self.ann_accuracy:.2f} %"))
        parts = (
            markdown(head.split("|"), layers),
            markdown(["product", "synaptic operations", "multiplications of the ANN"], products),
            markdown(["steps", quantity], accuracy),
        )
        title = f"{self.images} images, {self.steps[-1]} steps; spikes and operations per image"
        return "\n\n".join((title, *parts))

    def figure(self) -> Figure:
        """Plot correlation, error, dead and saturated neurons by layer, and accuracy against steps."""
        from snnfast import visual

        return visual.conversion(self)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; an undefined correlation is None."""
        values = asdict(self)
        for layer in values["layers"]:
            for name in ("correlation", "error"):
                layer[name] = None if math.isnan(layer[name]) else layer[name]
        return values


@check.keywords
def conversion_report(
    ann: nn.Module,
    snn: SpikingNetwork,
    loader: Iterable[Any],
    *,
    steps: Sequence[int] = STEPS,
    warm_up: int = 0,
    progress: bool | None = None,
) -> ConversionReport:
    """Compare a spiking network with the ReLU network it was converted from.

    Activations are computed with the weights of the spiking network and ReLUs. These are the weights of ``ann`` unless
    fine-tuning has changed them; the accuracy to compare with is that of ``ann`` itself.

    Args:
        ann: the ReLU network.
        snn: the spiking network.
        loader: batches of images and labels, or of images.
        steps: increasing numbers of steps after which to score; the layers are compared after the last.
        warm_up: number of first steps that the scores leave out; the statistics of layers include them.
        progress: show a progress bar; None: only if standard error is a terminal.

    Returns:
        The report: ``print`` shows its tables, ``report.figure()`` draws it.

    Raises:
        TypeError, ValueError: for an empty loader, images of wrong shape, labels that are not a class an image,
            networks with outputs of different shapes, and arguments of wrong type or range.
    """
    comparison = Comparison(ann, snn, steps, warm_up)
    for batch in each_batch(loader, "conversion_report", progress=progress, title="report"):
        comparison.add(*images_and_labels(batch))
    return comparison.report()


class Comparison:
    """Accumulate the statistics of :func:`conversion_report` batch by batch; its state can be saved and loaded.

    Attributes:
        images: number of images so far.
    """

    def __init__(self, ann: nn.Module, snn: SpikingNetwork, steps: Sequence[int] = STEPS, warm_up: int = 0) -> None:
        check.module("conversion_report", "ann", ann)
        if not isinstance(snn, SpikingNetwork):
            raise TypeError(
                f"conversion_report: snn must be a spiking network, got {type(snn).__name__}; make it with "
                "snnfast.convert"
            )
        wanted = increasing("conversion_report", steps, warm_up)
        self.ann, self.snn, self.steps, self.warm_up = ann, snn, wanted, warm_up
        self.images, self.labelled = 0, True
        self.right, self.right_ann = [0] * len(wanted), 0
        nodes = [node for node in snn.plan.nodes.values() if node.is_product]
        self._products = {n.name: snn.get_submodule(n.target) for n in nodes}
        self._layers = {name: _LayerSums(snn.plan.nodes[name].place) for name in snn.plan.neurons}
        self._operations = dict.fromkeys(self._products, 0.0)
        self._multiplications = dict.fromkeys(self._products, 0.0)

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Run a batch ``[B, ...]`` through both networks; ``labels`` are ``[B]``."""
        snn = self.snn
        snn.check_images(images)
        device = next((p.device for p in self.ann.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in self.ann.modules()]
        try:
            scores = self.ann.eval()(images.to(device)).to(images.device)
        finally:
            for module, was_training in modes:
                module.training = was_training
        check.shape("conversion_report", "the scores of ann", scores, (len(images), "classes"))
        if labels is None:
            truth = scores.argmax(1)
        else:
            truth = checked_labels("conversion_report", labels, scores).to(images.device)
        _, activations = snn.analog(images)
        stream = snn.stream(images, warm_up=self.warm_up, record=True)
        right = []
        for count in self.steps:
            output = stream.advance(count - stream.steps).output().to(images.device)
            if output.shape != scores.shape:
                raise ValueError(
                    f"conversion_report: ann gives scores {list(scores.shape)}, snn {list(output.shape)}; "
                    "give the network that snn was made of"
                )
            right.append(int((output.argmax(1) == truth).sum()))
        self.right = [a + b for a, b in zip(self.right, right)]
        self.right_ann += int((scores.argmax(1) == truth).sum())
        self.images += len(images)
        self.labelled = self.labelled and labels is not None
        scale = torch.ones((), device=stream.device)
        for name, layer in self._layers.items():
            threshold = snn.neurons(name).threshold
            # A spike of size 1 stands for the product of all thresholds up to its layer.
            scale = threshold * scale if snn.unit_spikes else threshold
            layer.add(activations[name], stream.counts[name], stream.steps, scale)
        for name, product in self._products.items():
            dense, active = _synapses(product, stream, name)
            self._multiplications[name] += dense * len(images)
            self._operations[name] += active

    def report(self) -> ConversionReport:
        """Return the report on the images so far."""
        if not self.images:
            raise ValueError("conversion_report: the loader holds no images")
        n = self.images
        return ConversionReport(
            tuple(layer.report(n) for layer in self._layers.values()),
            tuple(
                ProductReport(
                    self.snn.plan.nodes[name].place, self._operations[name] / n, self._multiplications[name] / n
                )
                for name in self._products
            ),
            self.steps,
            tuple(right / n for right in self.right),
            self.right_ann / n,
            n,
            self.labelled,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all sums, in plain containers and tensors."""
        fixed = ("ann", "snn", "steps", "warm_up", "_products", "_layers")
        state = {name: value for name, value in vars(self).items() if name not in fixed}
        return {**state, "layers": [vars(layer) for layer in self._layers.values()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same networks and steps."""
        state = dict(state)
        for layer, values in zip(self._layers.values(), state.pop("layers"), strict=True):
            vars(layer).update(values)
        vars(self).update(state)


class _LayerSums:
    """Float64 sums over images for the report of a layer."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.sums = torch.zeros(6, dtype=torch.float64)
        self.spikes = 0.0
        self.fired: Tensor | None = None
        self.always: Tensor | None = None
        self.threshold = self.steps = 0.0

    def add(self, activation: Tensor, count: Tensor, steps: int, scale: Tensor) -> None:
        a = activation.double().flatten()
        r = (count.double() / steps * scale.double()).flatten()
        size = torch.tensor(float(a.numel()))
        self.sums += torch.stack([size.to(a), a.sum(), r.sum(), a @ a, r @ r, a @ r]).cpu()
        self.spikes += float(count.sum())
        fired, always = (count > 0).any(0), (count == steps).any(0)
        self.fired = fired if self.fired is None else self.fired | fired
        self.always = always if self.always is None else self.always | always
        self.threshold, self.steps = float(scale.mean()), steps

    def report(self, images: int) -> LayerReport:
        if self.fired is None or self.always is None:
            raise RuntimeError(f"conversion_report: {self.place} has seen no images")
        n, a, r, aa, rr, ar = self.sums.tolist()
        spread = ((aa - a * a / n) * (rr - r * r / n)) ** 0.5
        neurons = self.fired.numel()
        return LayerReport(
            self.place,
            neurons,
            self.threshold,
            (ar - a * r / n) / spread if spread > 0 else float("nan"),
            (max(aa - 2 * ar + rr, 0.0) / aa) ** 0.5 if aa > 0 else float("nan"),
            self.spikes / (images * neurons * self.steps),
            self.spikes / images,
            1 - self.fired.float().mean().item(),
            self.always.float().mean().item(),
        )


def _synapses(product: nn.Module, stream: Stream, name: str) -> tuple[float, float]:
    """Return multiplications of ``product`` for one image, and synaptic operations for the whole batch."""
    counter = copy.copy(product)
    weight = torch.ones_like(product.weight)  # type: ignore[arg-type]
    counter._parameters = {"weight": weight, "bias": None}  # type: ignore[dict-item]
    with torch.no_grad():
        source = stream.plan.nodes[name].source
        if source in stream.constant:
            inputs = stream.constant[source]
            dense = counter(torch.ones_like(inputs[:1])).double().sum().item()
            return dense, dense * len(inputs)
        active = stream.counts[source] if source in stream.counts else stream.active[name]
        active = active.to(weight.dtype)
        dense = counter(torch.ones_like(active[:1])).double().sum().item()
        return dense, counter(active).double().sum().item()
