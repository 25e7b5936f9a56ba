"""A network of recurrent spiking layers for the classification of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.nn import ALIF, LI, LIF, AdLIF, Last, Max, Rate, Recurrent, SpikeLinear, Time
from snnfast.nn.equations import brf
from snnfast.nn.spiking import Spiking
from snnfast.reference.surrogate import SurrogateLike

NEURONS = ("lif", "alif", "adlif", "brf")
B_OFFSET = (0.1, 1.0)  # range of the resonators' initial damping
READOUTS = {"last": Last, "max": Max, "mean": Rate}


class SequenceNetwork(nn.Module):
    """Spiking network for sequences ``[B, T, in_features]``.

    ::

        Linear - neurons - SpikeLinear - neurons - ... - SpikeLinear - LI - readout

    The spikes of each layer return to it at the next step, by :class:`snnfast.nn.Recurrent`.

    Args:
        in_features: number of inputs.
        hidden: neurons of each layer.
        num_classes: number of classes of each answer.
        outputs: number of answers. One answer is read out by ``readout``; several are the membranes at the last
            ``outputs`` steps; None: the membranes at every step.
        neuron: ``"lif"``, ``"alif"``, ``"adlif"`` or ``"brf"``, balanced resonators (``snnfast.nn.equations.brf``)
            with learned frequency and damping per neuron.
        recurrent: whether the spikes of a layer return to it.
        spikes_adapt: whether only spikes, not the membrane, drive the adaptation of ``"adlif"`` (``a`` is 0). The
            adaptation then decays without oscillations and lasts longer.
        max_delay: longest delay of the recurrent spikes, in steps. Each neuron's delay is learned; its initial value is
            uniform between 0 and ``max_delay``. 0, or not ``recurrent``: no delays.
        readout: reduction of the output membrane over time, ``"last"``, ``"max"`` or ``"mean"``.
        tau: membrane time constant of ``"lif"`` and ``"alif"`` in steps.
        omega: lowest and highest initial frequency of ``"brf"``, in radians per 100 steps, below 100.
        tau_out: membrane time constant of the readout in steps.
        surrogate: surrogate gradient of the spikes, as in :class:`snnfast.nn.spiking.Spiking`.
        gain: factor on the initial weights of :class:`torch.nn.Linear` before each layer of neurons;
            :func:`snnfast.nn.calibrate_` sets them from a batch instead.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for sequences of another shape.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        num_classes: int,
        *,
        outputs: int | None = 1,
        neuron: str = "adlif",
        recurrent: bool = True,
        spikes_adapt: bool = False,
        max_delay: float = 0.0,
        readout: str = "mean",
        tau: float = 20.0,
        omega: tuple[float, float] = (3.0, 10.0),
        tau_out: float = 20.0,
        surrogate: SurrogateLike = "fast_sigmoid",
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        op = "SequenceNetwork"
        self.in_features = check.integer(op, "in_features", in_features)
        self.num_classes = check.integer(op, "num_classes", num_classes)
        self.outputs = None if outputs is None else check.integer(op, "outputs", outputs)
        recurrent = check.flag(op, "recurrent", recurrent)
        for name, value in (("tau", tau), ("tau_out", tau_out)):
            if check.number(op, name, value) < 1:
                raise ValueError(f"{op}: {name} must be at least 1 step, got {value:g}")
        check.choice(op, "neuron", neuron, NEURONS)
        check.choice(op, "readout", readout, tuple(READOUTS))
        if not 0 <= omega[0] <= omega[1] < 100:
            raise ValueError(f"{op}: omega must be two numbers in order in [0, 100), got {omega}")
        spikes_adapt = check.flag(op, "spikes_adapt", spikes_adapt)
        check.at_least_zero(op, "max_delay", max_delay)
        gain = check.positive(op, "gain", gain)
        sizes = check.sizes(op, "hidden", hidden)
        if not sizes:
            raise ValueError(f"{op}: hidden must have at least one layer, got ()")
        layers: list[nn.Module] = []
        for inputs, features in pairwise((in_features, *sizes)):
            linear = SpikeLinear(inputs, features) if layers else nn.Linear(inputs, features)
            with torch.no_grad():
                linear.weight.mul_(gain)
            spiking = _neurons(neuron, features, spikes_adapt, tau, omega, surrogate)
            cell = Recurrent(spiking, features, max_delay=max_delay) if recurrent else spiking
            layers += [Time(linear), cell]
        layers += [Time(SpikeLinear(sizes[-1], num_classes)), LI(tau_out)]
        self.layers = nn.Sequential(*layers)
        self.readout = READOUTS[readout]()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` ``[B, T, in_features]`` to logits ``[B, num_classes]`` or ``[B, outputs, num_classes]``."""
        return self.read(self.layers(self.time_first(x)))

    def read(self, v: Tensor) -> Tensor:
        """Return the logits for the output membranes ``[T, B, num_classes]``."""
        if self.outputs != 1:
            return v[-(self.outputs or len(v)) :].transpose(0, 1)
        read: Tensor = self.readout(v)
        return read

    def spikes(self, x: Tensor) -> list[Tensor]:
        """Return the spikes of every layer of neurons, ``[T, B, features]``."""
        v, found = self.time_first(x), []
        for layer in list(self.layers)[:-2]:
            v = layer(v)
            if not isinstance(layer, Time):
                found.append(v)
        return found

    def time_first(self, x: Tensor) -> Tensor:
        """Return ``x`` ``[B, T, in_features]`` in the layout of the layers, ``[T, B, in_features]``."""
        check.tensor("SequenceNetwork", "x", x)
        fewest = self.outputs or 1
        if x.dim() != 3 or x.shape[2] != self.in_features or x.shape[1] < fewest:
            raise ValueError(
                f"SequenceNetwork: x must have shape [B, T, {self.in_features}], T at least {fewest}, got "
                f"{list(x.shape)}"
            )
        return x.to(next(self.parameters())).transpose(0, 1)


def _neurons(
    neuron: str, features: int, spikes_adapt: bool, tau: float, omega: tuple[float, float], surrogate: SurrogateLike
) -> Spiking:
    if neuron == "lif":
        return LIF(tau, surrogate=surrogate)
    if neuron == "alif":
        return ALIF(tau, surrogate=surrogate)
    if neuron == "brf":
        frequency, damping = (nn.Parameter(torch.empty(features).uniform_(*drawn)) for drawn in (omega, B_OFFSET))
        return brf.layer(surrogate=surrogate, v_reset=None, omega=frequency, b_offset=damping)
    return AdLIF(features, a=(0.0, 0.0) if spikes_adapt else None, surrogate=surrogate)
