"""Layers of leaky integrate-and-fire neurons simulated by exact events: spike times in, spike times out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.reference.eventprop import response
from snnfast.reference.spikeprop import LAYER

__all__ = ["EventProp", "EventReadout"]


class _Synapses(nn.Module):
    """Weights ``[out_features, in_features]``, time constants and the end of the simulation."""

    def __init__(self, in_features: int, out_features: int, tau_mem: float, tau_syn: float, t_max: float) -> None:
        super().__init__()
        layer = type(self).__name__
        self.in_features = check.integer(layer, "in_features", in_features)
        self.out_features = check.integer(layer, "out_features", out_features)
        self.tau_mem = check.positive(layer, "tau_mem", tau_mem)
        self.tau_syn = check.positive(layer, "tau_syn", tau_syn)
        self.t_max = check.positive(layer, "t_max", t_max)
        self.weight = nn.Parameter(torch.empty(self.out_features, self.in_features))

    def reset_parameters(self, low: float = -0.5, high: float = 1.0) -> None:
        """Draw the weights uniformly between ``low`` and ``high``, times 8 / (I times the peak of a weight of 1)."""
        ratio = self.tau_syn / self.tau_mem
        exponent = 1.0 if ratio == 1 else math.log(ratio) / (ratio - 1)
        scale = 8 * math.exp(exponent) / self.in_features  # a weight of 1 reaches exp(-exponent)
        with torch.no_grad():
            self.weight.uniform_(low * scale, high * scale)

    def _constants(self) -> dict[str, Any]:
        return {"tau_mem": self.tau_mem, "tau_syn": self.tau_syn, "t_max": self.t_max}

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        constants = ", ".join(f"{name}={value:g}" for name, value in self._constants().items())
        return f"{self.in_features}, {self.out_features}, {constants}"


class EventProp(_Synapses):
    """Fully connected layer of LIF neurons with exponential synapses: all spike times, without time steps.

    ::

        tau_mem v' = i - v        tau_syn i' = -i        i += weight when a spike arrives
        a spike where v reaches v_threshold, then v = 0

    Computed by :func:`snnfast.ops.eventprop`, which documents the gradients and their bound. Times are in milliseconds.

    Args:
        in_features: inputs I.
        out_features: neurons N.
        recurrent: spikes also arrive at the neurons of this layer, by the parameter ``weight_rec`` ``[N, N]``, from
            neuron m to neuron n at ``[n, m]``.
        delay_range: draw a delay of each synapse uniformly between these two; None for no delays.
        learn_delays: delays are parameters. A delay that crosses zero is reflected there: its magnitude counts.
        tau_mem: time constant of the potential.
        tau_syn: time constant of the current; may equal ``tau_mem``.
        v_threshold: threshold, positive.
        t_max: end of the simulation.
        max_spikes: the most spikes of a neuron.
        stops: a neuron fires no more after ``max_spikes`` spikes; otherwise more spikes raise an error.
        slope_min: least slope at a spike in the gradient, in units of ``v_threshold / tau_mem``.
        validate: let the op check values; on CUDA that waits for the device.

    Attributes:
        weight: ``[N, I]``, starts uniform between -1/2 and 1, scaled so that the potential peaks near twice the
            threshold where all inputs fire at once; :func:`calibrate` fits it to data.
        weight_rec: ``[N, N]``, starts a tenth as large, around 0; None without recurrence.
        delays, delays_rec: ``[N, I]`` and ``[N, N]``, parameters or buffers; None without delays.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.

    Source: Wunderlich, Pehle, Event-based backpropagation can compute exact gradients for spiking neural networks,
    Scientific Reports 11 (2021); recurrence and delays: Meszaros, Knight, Nowotny, Nature Communications 16 (2025).

    Example:
        >>> layer = EventProp(50, 10, t_max=60.0)
        >>> layer(torch.rand(8, 50) * 10).shape
        torch.Size([8, 10, 16])
    """

    weight_rec: Tensor | None
    delays: Tensor | None
    delays_rec: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        recurrent: bool = False,
        delay_range: tuple[float, float] | None = None,
        learn_delays: bool = False,
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        v_threshold: float = 1.0,
        t_max: float = 40.0,
        max_spikes: int = 16,
        stops: bool = False,
        slope_min: float = 0.05,
        validate: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, tau_mem, tau_syn, t_max)
        self.v_threshold = check.positive("EventProp", "v_threshold", v_threshold)
        self.max_spikes = check.integer("EventProp", "max_spikes", max_spikes)
        self.stops = check.flag("EventProp", "stops", stops)
        self.slope_min = check.positive("EventProp", "slope_min", slope_min)
        self.validate = check.flag("EventProp", "validate", validate)
        recurrent = check.flag("EventProp", "recurrent", recurrent)
        learned = check.flag("EventProp", "learn_delays", learn_delays)
        if learned and delay_range is None:
            raise ValueError("EventProp: learn_delays must come with a delay_range, got None")
        n = self.out_features
        self.weight_rec = nn.Parameter(torch.empty(n, n)) if recurrent else None
        for name, wanted, inputs in (("delays", True, self.in_features), ("delays_rec", recurrent, n)):
            d = None
            if delay_range is not None and wanted:
                low, high = delay_bounds("EventProp", delay_range)
                d = torch.empty(n, inputs).uniform_(low, high)
            if learned and d is not None:
                setattr(self, name, nn.Parameter(d))
            else:
                self.register_buffer(name, d)
        self.reset_parameters()

    def reset_parameters(self, low: float = -0.5, high: float = 1.0) -> None:
        """Draw the weights uniformly between ``low`` and ``high``, scaled, and the recurrent weights around 0."""
        super().reset_parameters(low * self.v_threshold, high * self.v_threshold)
        if self.weight_rec is not None:
            bound = 0.1 * float(self.weight.detach().abs().max()) * self.in_features / self.out_features
            with torch.no_grad():
                self.weight_rec.uniform_(-bound, bound)

    def forward(self, t: Tensor, return_u_max: bool = False) -> Any:
        """Map spike times ``[B, I]`` or ``[B, I, S]`` to ``[B, N, max_spikes]``, in milliseconds; inf after the last.

        With ``return_u_max`` return ``(times, u_max)``: also the largest potential of each silent neuron, ``[B, N]``,
        which has a gradient; see :func:`snnfast.loss.revival`.
        """
        return self._run(t, self.max_spikes, self.stops, return_u_max)

    def first_times(self, t: Tensor) -> Tensor:
        """Return the first spike times ``[B, N]`` of neurons that stop after them."""
        times: Tensor = self._run(t, 1, True, False)
        return times[..., 0]

    def _run(self, t: Tensor, max_spikes: int, stops: bool, return_u_max: bool) -> Any:
        delays = [d.abs() if d is not None and d.requires_grad else d for d in (self.delays, self.delays_rec)]
        caller = None if torch.compiler.is_compiling() else LAYER.set("EventProp")
        try:
            return ops.eventprop(
                t,
                self.weight,
                self.weight_rec,
                delays=delays[0],
                delays_rec=delays[1],
                v_threshold=self.v_threshold,
                max_spikes=max_spikes,
                stops=stops,
                slope_min=self.slope_min,
                return_u_max=return_u_max,
                validate=self.validate,
                **self._constants(),
            )
        finally:
            if caller is not None:
                LAYER.reset(caller)

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        kinds = "".join(
            f", {name}=True"
            for name, value in (("recurrent", self.weight_rec), ("delays", self.delays))
            if value is not None
        )
        stops = ", stops=True" if self.stops else ""
        return f"{super().extra_repr()}, max_spikes={self.max_spikes}{stops}{kinds}"


class EventReadout(_Synapses):
    """Leaky integrators that do not fire: spike times in, one score per neuron out.

    Args:
        in_features: inputs I.
        out_features: neurons N, such as classes.
        readout: ``"max"``, the largest potential until ``t_max``, at least 0; or ``"mean"``, the mean potential from 0
            to ``t_max``, in closed form.
        tau_mem: time constant of the potential.
        tau_syn: time constant of the current; may equal ``tau_mem``.
        t_max: end of the simulation.
        validate: let the op of ``"max"`` check values; on CUDA that waits for the device.

    Attributes:
        weight: ``[N, I]``, as in :class:`EventProp`.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.

    Example:
        >>> scores = EventReadout(50, 10, readout="mean")(torch.rand(8, 50) * 10)
        >>> scores.shape
        torch.Size([8, 10])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        readout: str = "max",
        *,
        tau_mem: float = 20.0,
        tau_syn: float = 5.0,
        t_max: float = 40.0,
        validate: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, tau_mem, tau_syn, t_max)
        check.choice("EventReadout", "readout", readout, ("max", "mean"))
        self.readout = readout
        self.validate = check.flag("EventReadout", "validate", validate)
        self.reset_parameters()

    def forward(self, t: Tensor) -> Tensor:
        """Map spike times ``[B, I]`` or ``[B, I, S]`` to scores ``[B, N]``."""
        if self.readout == "max":
            constants = {"v_threshold": None, "max_spikes": 1, **self._constants()}
            _, u_max = ops.eventprop(t, self.weight, return_u_max=True, validate=self.validate, **constants)
            return u_max  # type: ignore[no-any-return]
        check.shape("EventReadout", "t", t, ("B", self.in_features, "S"), ("B", self.in_features))
        remaining = (self.t_max - (t if t.dim() == 3 else t[..., None])).clamp(min=0)
        # tau_mem v' = i - v: the integral of v is that of i less tau_mem times the final v.
        charge = self.tau_syn * -torch.expm1(-remaining / self.tau_syn)
        charge = charge - self.tau_mem * response(self.tau_mem, self.tau_syn, remaining)
        return charge.sum(2) @ self.weight.T / self.t_max

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return f"{super().extra_repr()}, readout={self.readout}"


def delay_bounds(layer: str, delay_range: tuple[float, float]) -> tuple[float, float]:
    """Check and return the shortest and the longest delay that ``layer`` draws."""
    is_sequence = isinstance(delay_range, Sequence) and not isinstance(delay_range, str)
    if not is_sequence or len(delay_range) != 2:
        raise TypeError(f"{layer}: delay_range must be two times, got {delay_range!r}")
    low, high = (check.number(layer, "delay_range", v) for v in delay_range)
    if not 0 <= low <= high:
        raise ValueError(f"{layer}: delay_range must be two times, 0 <= low <= high, got ({low:g}, {high:g})")
    return low, high
