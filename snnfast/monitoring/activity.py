"""The numbers of a monitor: one entry a layer of neurons, one a product; tables and scalars of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from snnfast.files.table import markdown

__all__ = ["Activity", "NeuronActivity", "ProductActivity"]

# Share of the neurons of a layer that never fire, or of the steps at which the others fire, from which it is reported.
_ALL = 0.95
_OPERATIONS = ("accumulates", "multiply_accumulates", "dense", "energy")  # of a product


@dataclass(frozen=True)
class NeuronActivity:
    """A layer of neurons.

    Attributes:
        place: where it stands in the network.
        kind: its class.
        neurons: their number.
        spikes: a sample.
        rate: spikes a neuron and step; NaN for neurons with spike times and no steps.
        silent: part of the neurons that never fired.
        saturated: part of the neurons that fired at every step of some sample; NaN without steps.
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
    """A Linear, a convolution, or the recurrent weights of a layer of neurons. All numbers are per sample.

    Attributes:
        place: where it stands in the network.
        kind: its class.
        accumulates: effective ones: an input of -1 or 1, a weight that is not 0.
        multiply_accumulates: effective ones, of inputs with other values.
        dense: operations with all inputs and all weights, those of 0, too.
        energy: joules, by the constants of :class:`Activity`.
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
        neurons: one entry a layer of neurons.
        products: one entry a Linear, convolution or recurrent weight.
        samples: number of samples it processed.
        energy_ac: joules of an accumulate.
        energy_mac: joules of a multiply-accumulate.
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
        """All products together, "network"; neurons and memory take energy that is not in it."""
        sums = [sum(getattr(p, name) for p in self.products) for name in _OPERATIONS]
        return ProductActivity("network", "", *sums)

    def table(self) -> str:
        """Two Markdown tables: neurons, and synaptic operations a sample."""
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
        """A line for every layer of neurons that is silent or saturated, and so passes on next to nothing."""
        lines = []
        for n in self.neurons:
            name = f"{n.place} ({n.kind}, {n.neurons} neurons)"
            if n.silent >= _ALL:
                lines.append(
                    f"{name} is silent: {100 * n.silent:.0f} % of its neurons never fired for {self.samples} samples"
                )
            elif n.rate >= _ALL * (1 - n.silent):  # not of NaN
                lines.append(
                    f"{name} is saturated: its neurons fired at every step, {100 * n.silent:.0f} % of them never, for "
                    f"{self.samples} samples"
                )
        return lines

    def scalars(self) -> dict[str, float]:
        """The numbers by name, ``LAYER/rate`` and others, for ``SummaryWriter.add_scalar``."""
        named = {
            f"{n.place}/{name}": getattr(n, name)
            for n in self.neurons
            for name in ("spikes", "rate", "silent", "saturated")
        }
        named |= {f"{p.place}/{name}": getattr(p, name) for p in self._with_total() for name in _OPERATIONS}
        return {name: value for name, value in named.items() if not math.isnan(value)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a rate that there is not is None."""
        values = asdict(self)
        for layer in values["neurons"]:
            for name in ("rate", "saturated"):
                layer[name] = None if math.isnan(layer[name]) else layer[name]
        return values

    def _with_total(self) -> tuple[ProductActivity, ...]:
        return (*self.products, self.total) if self.products else ()


def _or_dash(value: float, text: str) -> str:
    return "-" if math.isnan(value) else text
