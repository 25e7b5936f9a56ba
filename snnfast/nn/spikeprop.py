"""Layers of neurons that fire once, at a time that has a gradient."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.ops.spikeprop import Pull, untracked
from snnfast.reference.spikeprop import LAYER

from .eventprop import EventProp, delay_bounds

__all__ = ["SpikeProp", "calibrate"]

# Between two layers that fire at all and two that fire at once lie about 4 decades.
_GAINS = (1e-4, 1e4)


class SpikeProp(nn.Module):
    """Fully connected layer of spike response neurons: spike times in, spike times out.

    Each input reaches each neuron over K synapses ("terminals") of different delays::

        u[j](t) = sum_i sum_k w[j, i, k] eps(t - t_in[i] - d[k])        eps(s) = (s / tau) e^(1 - s / tau) for s > 0
        t_out[j] = first t with u[j](t) = v_threshold, inf if there is none up to t_max

    by :func:`snnfast.ops.spikeprop`, which says how the gradients are made and bounded. Times are in milliseconds.

    Args:
        in_features: inputs I.
        out_features: neurons O.
        delays: number of terminals K, whose delays are then 1, 2, ..., K (the paper's); or the delays themselves,
            ``[K]`` for all inputs or ``[I, K]``, a tensor or numbers, none negative.
        tau: time constant of the potential, positive; a number or a tensor of one, learned if an ``nn.Parameter``.
        v_threshold: threshold, positive.
        t_max: end of the observation; a neuron that has not fired by then is silent.
        dt: None for exact times; otherwise the grid of a simulation in steps of ``dt``.
        slope_min: least slope at the crossing in the gradient, in units of ``v_threshold / tau``; see the op.
        delay_range: draw the delays uniformly between these two, for each input and terminal, instead of 1 ... K.
        learn_delays: delays are a parameter. A delay that crosses zero is reflected there: its magnitude counts.
        signs: +1 or -1 for each input, ``[I]``: excitatory and inhibitory inputs, as in the paper, whose weights keep
            that sign: the magnitude of the parameter counts. None: weights of both signs.
        validate: let the op check values, and warn if all neurons are silent in training; on CUDA that waits for the
            device.

    The parameter ``weight`` ``[O, I, K]`` starts uniform between -1/2 and 1, scaled so that the potential of a neuron
    whose inputs all fire peaks near twice the threshold. :func:`calibrate` fits it to data.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.

    Source: Bohte, Kok, La Poutre, Error-backpropagation in temporally encoded networks of spiking neurons,
    Neurocomputing 48 (2002), section 2; delays and tau: Schrauwen and Van Campenhout, Extending SpikeProp, IJCNN 2004.

    Example:
        >>> layer = SpikeProp(50, 10)
        >>> layer(torch.rand(8, 50) * 10).shape
        torch.Size([8, 10])
    """

    weight: Tensor
    delays: Tensor
    name: str = "SpikeProp"  #: in the warning; :class:`snnfast.papers.Bohte2002` names its layers

    def __init__(
        self,
        in_features: int,
        out_features: int,
        delays: int | Sequence[float] | Tensor = 16,
        *,
        tau: float | Tensor = 7.0,
        v_threshold: float = 1.0,
        t_max: float = 40.0,
        dt: float | None = None,
        slope_min: float = 0.05,
        delay_range: tuple[float, float] | None = None,
        learn_delays: bool = False,
        signs: Sequence[float] | Tensor | None = None,
        validate: bool = True,
    ) -> None:
        super().__init__()
        self.in_features = check.integer("SpikeProp", "in_features", in_features)
        self.out_features = check.integer("SpikeProp", "out_features", out_features)
        self.v_threshold = check.positive("SpikeProp", "v_threshold", v_threshold)
        self.t_max = check.positive("SpikeProp", "t_max", t_max)
        self.dt = None if dt is None else check.positive("SpikeProp", "dt", dt)
        self.slope_min = check.positive("SpikeProp", "slope_min", slope_min)
        self.validate = check.flag("SpikeProp", "validate", validate)
        self.tau: float | Tensor
        if isinstance(tau, Tensor) and not isinstance(tau, nn.Parameter):
            self.register_buffer("tau", tau)
        else:
            self.tau = tau if isinstance(tau, Tensor) else check.positive("SpikeProp", "tau", tau)
        d = _delays(delays, delay_range, self.in_features)
        if check.flag("SpikeProp", "learn_delays", learn_delays):
            self.delays = nn.Parameter(d)
        else:
            self.register_buffer("delays", d)
        self.signs: Tensor | None
        self.register_buffer("signs", None if signs is None else _signs(signs, self.in_features))
        self.weight = nn.Parameter(torch.empty(out_features, in_features, d.shape[-1]))
        self.reset_parameters()

    def reset_parameters(self, low: float = -0.5, high: float = 1.0) -> None:
        """Draw the weights uniformly between ``low`` and ``high``, times ``8 v_threshold / (I K)``."""
        scale = 8 * self.v_threshold / self.weight[0].numel()
        with torch.no_grad():
            self.weight.uniform_(low * scale, high * scale)

    def effective(self) -> tuple[Tensor, Tensor]:
        """Return the effective weights ``[O, I, K]`` and delays ``[K]`` or ``[I, K]``: signed and reflected."""
        w = self.weight if self.signs is None else self.weight.abs() * self.signs[:, None]
        return w, self.delays.abs() if self.delays.requires_grad else self.delays

    def forward(self, t: Tensor, return_u_max: bool = False) -> Any:
        """Spike times ``[B, I]`` -> spike times ``[B, O]``, in milliseconds; ``inf`` for silent neurons.

        With ``return_u_max`` ``(times, u_max)``: also the largest potential of each silent neuron, ``[B, O]``, which
        has a gradient; see :func:`snnfast.loss.virtual_times`. Warns if no neuron fires for any sample of the batch
        and so nothing has a gradient.
        """
        w, d = self.effective()
        if torch.compiler.is_compiling():  # no warnings there
            return ops.spikeprop(t, w, d, return_u_max=return_u_max, **self._constants())
        caller = LAYER.set(self.name)
        try:
            return ops.spikeprop(t, w, d, return_u_max=return_u_max, **self._constants())
        finally:
            LAYER.reset(caller)

    def first_times(self, t: Tensor) -> Tensor:
        """Spike times ``[B, O]``; there is one for each neuron."""
        return self(t)  # type: ignore[no-any-return]

    def untracked(self, t: Tensor) -> tuple[Tensor, Pull]:
        """Spike times ``[B, O]`` and a function for their gradients, without autograd.

        The function takes the gradient of the times, and whether that of ``t`` is wanted. It returns the gradients of
        ``t`` and of the weights.
        """
        w, d = self.effective()
        return untracked(t, w, d, **self._constants())

    def _constants(self) -> dict[str, Any]:
        return {
            "tau": self.tau,
            "v_threshold": self.v_threshold,
            "t_max": self.t_max,
            "dt": self.dt,
            "slope_min": self.slope_min,
            "validate": self.validate,
        }

    @torch.no_grad()
    def clipped_share(self, t: Tensor) -> float:
        """Share of spikes, for inputs ``t`` ``[B, I]``, whose slope is below ``slope_min`` and bounded.

        NaN if no neuron fires.
        """
        w, d = self.effective()
        fired, slope = ops.spikeprop(t, w, d, return_slope=True, **self._constants())
        clipped = slope < self.slope_min * self.v_threshold / self.tau
        return float(clipped.sum() / fired.isfinite().sum())

    @torch.no_grad()
    def potentials(self, t: Tensor, times: Tensor) -> Tensor:
        """Potentials ``[T, B, O]`` at the times ``times`` ``[T]`` for input spikes ``[B, I]``, as if no neuron fired.

        A spike response neuron that fires once has no reset; its potential goes on as shown.
        """
        w, d = self.effective()
        s = (times[:, None, None, None] - (t[:, :, None] + d)) / self.tau
        # A silent input is inf, and so is its s: -inf.
        response = torch.where(s > 0, s * (1 - s).exp(), 0)
        return torch.einsum("tbik,oik->tbo", response, w)

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        tau = "learned" if isinstance(self.tau, nn.Parameter) else f"{float(self.tau):g}"
        learned = ", learn_delays=True" if self.delays.requires_grad else ""
        return (
            f"{self.in_features}, {self.out_features}, terminals={self.delays.shape[-1]}, tau={tau}, "
            f"v_threshold={self.v_threshold:g}, t_max={self.t_max:g}, dt={self.dt}{learned}"
        )


@torch.no_grad()
def calibrate(layer: SpikeProp | EventProp, t: Tensor, mean_time: float, *, steps: int = 40) -> Tensor:
    """Scale the weights of each neuron so that its mean first firing time over ``t`` is ``mean_time``.

    The same as ``calibrate_(layer, t, mean_time=mean_time)`` (:func:`snnfast.nn.calibrate_`), which also sets the
    firing rates of networks with steps.

    A larger gain raises the whole potential, so the neuron fires earlier in every sample: the gain is found by
    bisection, for all neurons at once. A silent neuron counts with the time ``layer.t_max``. This replaces the tuning
    of initial weights, which decides whether SpikeProp learns at all. Calibrate deep networks layer by layer, each on
    the spike times of the one before.

    Args:
        layer: its ``weight`` is changed in place.
        t: spike times of its inputs, ``[B, I]``, or ``[B, I, S]`` for an EventProp; some hundred samples are enough.
        mean_time: in milliseconds, between 0 and ``layer.t_max``.
        steps: bisections.

    Returns:
        the mean firing times reached, ``[O]``. A neuron that cannot fire that early with any gain, because its inputs
        come later or mostly inhibit it, keeps its weights; a warning says how many such neurons there are.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, and those of the layer; the weights are then
            unchanged.
    """
    if not isinstance(layer, (SpikeProp, EventProp)):
        raise TypeError(
            f"calibrate: layer must be a SpikeProp or an EventProp, got {type(layer).__name__}; firing rates of a "
            "network are set by snnfast.nn.calibrate_(net, x, rate=0.1)"
        )
    target = check.number("calibrate", "mean_time", mean_time)
    if not 0 < target < layer.t_max:
        raise ValueError(f"calibrate: mean_time must lie between 0 and t_max = {layer.t_max:g} ms, got {target:g}")
    check.integer("calibrate", "steps", steps)
    before = layer.weight.detach().clone()

    def mean(log_gain: Tensor) -> Tensor:
        layer.weight.copy_(before * log_gain.exp().view(-1, *(1,) * (before.dim() - 1)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*prop: all outputs are silent")
            times = layer.first_times(t)
        return times.clamp(max=layer.t_max).mean(0)

    try:
        low, high = (before.new_full((layer.out_features,), g).log() for g in _GAINS)
        able = mean(high) <= target
        for _ in range(steps):
            middle = (low + high) / 2
            early = mean(middle) <= target
            low, high = torch.where(early, low, middle), torch.where(early, middle, high)
        reached = mean(torch.where(able, high, torch.zeros_like(high)))
        if not able.all():
            warnings.warn(
                f"calibrate: {int((~able).sum())} of {len(able)} neurons cannot fire at {target:g} ms on average with "
                "any gain and keep their weights; choose a later mean_time or draw more weights positive",
                stacklevel=3,  # past no_grad
            )
    except BaseException:
        layer.weight.copy_(before)
        raise
    return reached


def _delays(delays: int | Sequence[float] | Tensor, drawn_from: tuple[float, float] | None, inputs: int) -> Tensor:
    """Return delays ``[K]`` or ``[I, K]``: 1 to K, drawn at random, or those of the user."""
    if not isinstance(delays, int) or isinstance(delays, bool):
        if drawn_from is not None:
            raise ValueError("SpikeProp: give delays as a number of terminals with delay_range")
        return _checked_delays(delays, inputs)
    terminals = check.integer("SpikeProp", "delays", delays)
    if drawn_from is None:
        return torch.arange(1.0, terminals + 1)
    return torch.empty(inputs, terminals).uniform_(*delay_bounds("SpikeProp", drawn_from))


def _checked_delays(delays: object, inputs: int) -> Tensor:
    d = _as_tensor("delays", delays, "a number of terminals or their delays")
    d = d if d.dtype == torch.float64 else d.float()
    if d.numel() == 0 or d.dim() not in (1, 2) or (d.dim() == 2 and len(d) != inputs):
        raise ValueError(f"SpikeProp: delays must have shape [K] or [{inputs}, K], K at least 1, got {list(d.shape)}")
    if not ((d >= 0) & d.isfinite()).all():
        low, high = d.min().item(), d.max().item()
        raise ValueError(f"SpikeProp: delays must be finite and at least 0, got values from {low} to {high}")
    return d


def _signs(signs: Sequence[float] | Tensor, inputs: int) -> Tensor:
    s = _as_tensor("signs", signs, "a tensor or numbers").float()
    if s.shape != (inputs,) or not (s.abs() == 1).all():
        raise ValueError(f"SpikeProp: signs must be +1 or -1 for each of {inputs} inputs, got {signs}")
    return s


def _as_tensor(name: str, value: object, wanted: str) -> Tensor:
    """Copy the argument ``name`` to a tensor."""
    try:
        return torch.as_tensor(value).detach().clone()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"SpikeProp: {name} must be {wanted}, got {type(value).__name__}") from None
