"""Results of a monitor: an entry per layer of neurons and per product; as tables and scalars."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from snnfast.files.table import markdown

__all__ = ["Activity", "NeuronActivity", "ProductActivity"]

# Fraction of neurons that never fire, or of steps at which the others fire, from which a layer is reported.
_ALL = 0.95
_OPERATIONS = ("accumulates", "multiply_accumulates", "dense", "energy")  # numbers of a product


@dataclass(frozen=True)
class NeuronActivity:
    """Activity of a layer of neurons.

    Attributes:
        place: name of the layer in the network.
        kind: class of the layer.
        neurons: number of neurons.
        spikes: number of spikes per sample.
        rate: spikes per neuron and step; NaN for neurons with spike times and no steps.
        silent: fraction of the neurons that never fired.
        saturated: fraction of the neurons that fired at every step of some sample; NaN without steps.
    """

    place: str
    kind: str
    neurons: int
    spikes: float
    rate: float
    silent: float
    saturated: float


@dataclass(frozen=True)
class ProductActivity:
    """Operations of a Linear, a convolution, or the recurrent weights of a layer. All numbers are per sample.

    Attributes:
        place: name of the layer in the network.
        kind: class of the layer.
        accumulates: effective accumulates: an input of -1 or 1, a weight that is not 0.
        multiply_accumulates: effective multiply-accumulates, of inputs with other values.
        dense: operations with all inputs and all weights, including those of 0.
        energy: energy in joules, by the constants of :class:`Activity`.
    """

    place: str
    kind: str
    accumulates: float
    multiply_accumulates: float
    dense: float
    energy: float


@dataclass(frozen=True)
class Activity:
    """Activity of a network: its spikes and synaptic operations.

    Attributes:
        neurons: one entry per layer of neurons.
        products: one entry per Linear, convolution or recurrent weight.
        samples: number of samples it processed.
        energy_ac: energy of an accumulate in joules.
        energy_mac: energy of a multiply-accumulate in joules.
    """

    neurons: tuple[NeuronActivity, ...]
    products: tuple[ProductActivity, ...]
    samples: int
    energy_ac: float
    energy_mac: float

    def __str__(self) -> str:
        return self.table()

    @property
    def total(self) -> ProductActivity:
        """Sum over all products, "network"; it does not contain the energy of neurons and memory."""
        sums = [sum(getattr(p, name) for p in self.products) for name in _OPERATIONS]
        return ProductActivity("network", "", *sums)

    def table(self) -> str:
        """Return two Markdown tables: neurons, and synaptic operations per sample."""
        neurons = [
            (
                n.place,
                n.kind,
                str(n.neurons),
                f"{n.spikes:.4g}",
                _or_dash(n.rate, f"{n.rate:.4f}"),
                f"{100 * n.silent:.1f} %",
                _or_dash(n.saturated, f"{100 * n.saturated:.1f} %"),
            )
            for n in self.neurons
        ]
        products = [
            (
                p.place,
                p.kind,
                *(f"{n:.4g}" for n in (p.accumulates, p.multiply_accumulates, p.dense)),
                f"{p.energy * 1e9:.4g} nJ",
            )
            for p in self._with_total()
        ]
        parts = [f"{self.samples} samples; spikes and operations per sample"]
        if neurons:
            head = "neurons at|kind|neurons|spikes|rate|silent|saturated"
            parts.append(markdown(head.split("|"), neurons))
        if products:
            head = "product at|kind|accumulates|multiply-accumulates|dense|energy"
            parts.append(markdown(head.split("|"), products))
        return "\n\n".join(parts)

    def troubles(self) -> list[str]:
        """Return a line for every layer of neurons that is silent or saturated, and so transmits almost nothing."""
        lines = []
        for n in self.neurons:
            name = f"{n.place} ({n.kind}, {n.neurons} neurons)"
            if n.silent >= _ALL:
                lines.append(
                    f"{name} is silent: {100 * n.silent:.0f} % of its neurons never fired for {self.samples} samples"
                )
            elif n.rate >= _ALL * (1 - n.silent):  # false for NaN
                lines.append(
                    f"{name} is saturated: its neurons fired at every step, {100 * n.silent:.0f} % of them never, for "
                    f"{self.samples} samples"
                )
        return lines

    def scalars(self) -> dict[str, float]:
        """Return the numbers by name, ``LAYER/rate`` and others, for ``SummaryWriter.add_scalar``."""
        named = {
            f"{n.place}/{name}": getattr(n, name)
            for n in self.neurons
            for name in ("spikes", "rate", "silent", "saturated")
        }
        named |= {f"{p.place}/{name}": getattr(p, name) for p in self._with_total() for name in _OPERATIONS}
        return {name: value for name, value in named.items() if not math.isnan(value)}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; an undefined rate is None."""
        values = asdict(self)
        for layer in values["neurons"]:
            for name in ("rate", "saturated"):
                layer[name] = None if math.isnan(layer[name]) else layer[name]
        return values

    def _with_total(self) -> tuple[ProductActivity, ...]:
        return (*self.products, self.total) if self.products else ()


def _or_dash(value: float, text: str) -> str:
    return "-" if math.isnan(value) else text
