"""Neurons with the semantics of other libraries, by their names and arguments: :func:`like`.

``docs/semantics.md`` has the table of the libraries' semantics; ``tests/ports/test_presets.py`` compares with traces
recorded from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snnfast import check
from snnfast.nn import equations
from snnfast.nn.neurons import EIF, IF, LIF, QIF, Izhikevich
from snnfast.nn.own_neuron import OwnLayer
from snnfast.nn.parametric_lif import ParametricLIF
from snnfast.nn.spiking import Spiking
from snnfast.reference.surrogate import SurrogateLike, fast_sigmoid

from . import norse_equations as norse
from .snntorch_neuron import MOST_SHIFT

__all__ = ["like"]


def like(neuron: str, **arguments: Any) -> Spiking:
    """Return a layer that spikes like a neuron of another library with the same arguments.

    The layer takes ``[T, B, ...]`` and follows snnfast's rules of state; ``surrogate``,
    ``stateful`` and ``return_v_seq`` are those of :class:`snnfast.nn.LIF`. Other neurons and arguments raise an error.

    - ``"spikingjelly.LIFNode"`` (tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0, detach_reset=False,
      surrogate="sigmoid") is :class:`snnfast.nn.LIF`.
    - ``"spikingjelly.ParametricLIFNode"`` (init_tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0,
      detach_reset=False, surrogate="sigmoid") is :class:`snnfast.nn.ParametricLIF`.
    - ``"spikingjelly.IFNode"`` (v_threshold=1.0, v_reset=0.0, detach_reset=False, surrogate="sigmoid") is
      :class:`snnfast.nn.IF`.
    - ``"spikingjelly.QIFNode"`` (tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.0, v_reset=-0.1,
      detach_reset=False, surrogate="sigmoid") is :class:`snnfast.nn.QIF`. SpikingJelly's membrane starts at
      ``v_reset``, the layer's at ``v_rest``, in this and the next two.
    - ``"spikingjelly.EIFNode"`` (tau=2.0, delta_T=1.0, theta_rh=0.8, v_threshold=1.0, v_rest=0.0, v_reset=-0.1,
      detach_reset=False, surrogate="sigmoid") is :class:`snnfast.nn.EIF`.
    - ``"spikingjelly.IzhikevichNode"`` (tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_reset=0.0, v_rest=-0.1, tau_w=2.0,
      a=0.0, b=0.0, detach_reset=False, surrogate="sigmoid") is :class:`snnfast.nn.Izhikevich`.
    - ``"spikingjelly.MultiStepIFNode"``, ``"spikingjelly.MultiStepLIFNode"``,
      ``"spikingjelly.MultiStepParametricLIFNode"`` and ``"spikingjelly.MultiStepEIFNode"``, the names of
      ``clock_driven``, are the same as those without ``MultiStep``.
    - ``"snntorch.Leaky"`` (beta, threshold=1.0, reset_mechanism="subtract", reset_delay=True, surrogate="atan") spikes
      only above threshold and does not scale the input. A delayed reset has no gradient. With ``"subtract"`` snnTorch
      subtracts the threshold after the decay of the next step; the layer subtracts ``threshold / beta`` before it. Its
      state ``v`` is then snnTorch's membrane after the reset plus ``v_rest = threshold / beta - threshold``; what
      ``return_v_seq`` returns is snnTorch's membrane, before a delayed reset.
    - ``"spikingjelly.KLIFNode"`` (tau=2.0, decay_input=True, scale_reset=False, k=1.0, v_threshold=1.0, v_reset=0.0,
      detach_reset=False, surrogate="sigmoid"), ``"spikingjelly.ComplementaryLIFNode"`` (tau=2.0, v_threshold=1.0,
      surrogate="rectangle"), ``"spikingjelly.ILIFNode"`` (tau=4/3, v_threshold=1.0, max_spike_count=4,
      grad_window=None, detach_reset=False), ``"spikingjelly.RAFNode"`` (b=-0.2, omega=1.0, dt=1.0, v_threshold=1.0,
      v_reset=0.0, detach_reset=False, surrogate="sigmoid"), ``"spikingjelly.TernaryIFNode"`` and
      ``"spikingjelly.TernaryLIFNode"`` (tau=2.0 and decay_input=True of the second, v_threshold=1.0, v_reset=0.0,
      detach_reset=False, surrogate="sigmoid") come from step functions, ``snnfast.nn.equations``; ``k`` may be an
      ``nn.Parameter``.
      RAFNode's membrane starts at 0, SpikingJelly's at ``v_reset``.
    - ``"norse.LIFBoxCell"`` (tau_mem_inv=100.0 in 1/s, v_leak=0.0, v_th=1.0, v_reset=0.0, dt=0.001 in s,
      surrogate=fast_sigmoid(1)) spikes only above threshold, with ``decay = 1 - dt tau_mem_inv``.
    - ``"norse.LIFExCell"``, ``"norse.LIFAdExCell"``, ``"norse.LIFRefracCell"``, ``"norse.LIFAdExRefracCell"`` and
      ``"norse.IzhikevichCell"`` (their parameters by name, dt=0.001 in s, surrogate=fast_sigmoid(1)) come from step
      functions, too; the last one starts at ``v = u = 0`` instead of the state of a spiking behaviour.

    Example:
        >>> snnfast.nn.like("snntorch.Leaky", beta=0.5)

    Raises:
        ValueError: for a neuron or a setting that is not supported.
        TypeError: for an argument that the neuron does not have.
    """
    if not isinstance(neuron, str) or neuron not in PRESETS:
        raise ValueError(
            f"like: neuron must be one of {', '.join(PRESETS)}, got {check.shown(neuron)}"
            f"{check.suggestion(neuron, PRESETS)}"
        )
    takes = inspect.signature(PRESETS[neuron])
    try:
        takes.bind(**arguments)
    except TypeError as error:
        raise TypeError(f"like: {neuron}: {error}; it has {', '.join(takes.parameters)}") from None
    return PRESETS[neuron](**arguments)


def _spikingjelly(layer: Callable[..., Spiking], **settings: Any) -> Callable[..., Spiking]:
    """Return SpikingJelly's preset for ``layer``, with ``settings`` besides those that all its neurons have."""
    defaults = {
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "detach_reset": False,
        "surrogate": "sigmoid",
        "stateful": False,
        "return_v_seq": False,
    } | settings

    def make(**arguments: Any) -> Spiking:
        chosen = defaults | arguments
        if "delta_T" in chosen:
            chosen["delta_t"] = chosen.pop("delta_T")
        return layer(**chosen)

    make.__signature__ = _keywords(defaults)  # type: ignore[attr-defined]
    return make


def _snntorch_leaky(
    beta: float,
    threshold: float = 1.0,
    reset_mechanism: str = "subtract",
    reset_delay: bool = True,
    *,
    surrogate: SurrogateLike = "atan",
    stateful: bool = False,
    return_v_seq: bool = False,
) -> LIF:
    beta = check.number("snntorch.Leaky", "beta", beta)
    threshold = check.number("snntorch.Leaky", "threshold", threshold)
    if reset_mechanism not in ("subtract", "zero"):
        raise ValueError(f"snntorch.Leaky: reset_mechanism must be 'subtract' or 'zero', got {reset_mechanism!r}")
    fires_at = threshold
    if reset_delay and reset_mechanism == "subtract":
        if not 0 < beta <= 1:
            raise ValueError(f"snntorch.Leaky: beta must lie in (0, 1], got {beta}")
        fires_at = threshold / beta
        if not abs(fires_at) <= MOST_SHIFT:
            raise ValueError(
                f"like: snntorch.Leaky: threshold / beta must be at most {MOST_SHIFT:g} with a reset by subtraction, "
                f"got {fires_at:g}: the layer shifts its membrane by as much, and would round it by more than 1e-6; "
                "for a readout that never fires take snnfast.nn.LI(decay=beta, decay_input=False)"
            )
    kind = _DelayedReset if reset_delay else LIF
    return kind(
        decay=beta,
        decay_input=False,
        v_threshold=fires_at,
        v_reset=None if reset_mechanism == "subtract" else 0.0,
        # Measured from v_rest, the threshold equals what the reset subtracts.
        v_rest=fires_at - threshold,
        detach_reset=reset_delay,
        surrogate=surrogate,
        stateful=stateful,
        return_v_seq=return_v_seq,
        strict=True,
    )


class _DelayedReset(LIF):
    """A layer that returns membranes before their reset, like a neuron that resets in the next step."""

    def forward(self, x: Tensor) -> Any:
        """Input ``[T, B, ...]`` -> spikes; with ``return_v_seq`` ``(spikes, membranes)``."""
        start, rest, decay = self.v, float(self.v_rest), float(self.decay)  # type: ignore[arg-type]
        result = super().forward(x)
        if not self.return_v_seq:
            return result
        spikes, v_seq = result
        if start is None:
            start = v_seq.new_full(x.shape[1:], rest)
        before = torch.cat([start.to(v_seq).unsqueeze(0), v_seq[:-1]])
        return spikes, decay * (before - rest) + x


def _norse_lif_box(
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    dt: float = 0.001,
    *,
    surrogate: SurrogateLike | None = None,
    stateful: bool = False,
    return_v_seq: bool = False,
) -> LIF:
    dt = check.number("norse.LIFBoxCell", "dt", dt)
    tau_mem_inv = check.number("norse.LIFBoxCell", "tau_mem_inv", tau_mem_inv)
    return LIF(
        decay=1 - dt * tau_mem_inv,
        v_threshold=v_th,
        v_reset=v_reset,
        v_rest=v_leak,
        # Norse's cells ignore their alpha for the default surrogate.
        surrogate=fast_sigmoid(1.0) if surrogate is None else surrogate,
        stateful=stateful,
        return_v_seq=return_v_seq,
        strict=True,
    )


def _klif(*, tau: float, decay_input: bool, scale_reset: bool, v_reset: float | None, **others: Any) -> OwnLayer:
    settings = equations.charge(tau, decay_input) | equations.reset(v_reset)
    return equations.klif.layer(**settings, scaled=float(scale_reset), **others)


def _ilif(
    tau: float = 4 / 3,
    v_threshold: float | Tensor = 1.0,
    max_spike_count: int = 4,
    grad_window: tuple[float, float] | None = None,
    **others: Any,
) -> OwnLayer:
    most = check.integer("spikingjelly.ILIFNode", "max_spike_count", max_spike_count)
    low, high = (0.0, float(most)) if grad_window is None else grad_window
    count = equations.SpikeCount(most, low, high)
    settings = {"decay": 1 - 1 / tau, "v_threshold": v_threshold, "v_reset": None, "surrogate": count}
    return equations.ilif.layer(**settings, **others)


def _raf(*, b: float, omega: float, dt: float, **others: Any) -> OwnLayer:
    return equations.raf.layer(**equations.turn(b, omega, dt), **others)


def _ternary(*, tau: float | None = None, decay_input: bool = False, v_reset: float | None, **others: Any) -> OwnLayer:
    settings = {} if tau is None else equations.charge(tau, decay_input)
    return equations.ternary.layer(**settings, **equations.reset(v_reset), **others)


def _norse(kind: Any, **defaults: float) -> Callable[..., Spiking]:
    """Return the preset of Norse's neuron ``kind``, a class that has the names of its parameters."""
    defaults = {**defaults, "dt": 0.001}
    keys = {**kind.settings, "v_threshold": "v_th"}
    keys |= {} if kind.holds is None else {"rho_reset": "rho_reset"}

    def make(**arguments: Any) -> OwnLayer:
        chosen = defaults | {k: v for k, v in arguments.items() if k in defaults}
        firing = {k: v for k, v in arguments.items() if k not in defaults}
        settings = {name: chosen[key] for name, key in keys.items()}
        settings |= {name: chosen[key] * chosen["dt"] for name, key in kind.rates.items()}
        return kind.neuron.layer(**{"surrogate": fast_sigmoid(1.0), **settings, **firing}, strict=True)  # type: ignore[no-any-return]

    others = {"surrogate": fast_sigmoid(1.0), "stateful": False, "return_v_seq": False}
    make.__signature__ = _keywords(defaults | others)  # type: ignore[attr-defined]
    return make


def _keywords(defaults: dict[str, Any]) -> inspect.Signature:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature([inspect.Parameter(n, kind, default=v) for n, v in defaults.items()])


_CURRENT = {"tau_syn_inv": 200.0, "tau_mem_inv": 100.0, "v_leak": 0.0, "v_th": 1.0, "v_reset": 0.0}
_ADAPTIVE = {**_CURRENT, **{"adaptation_current": 4.0, "adaptation_spike": 0.02, "delta_T": 0.5, "tau_ada_inv": 2.0}}
_COUNTS = {"detach_reset": False, "stateful": False, "return_v_seq": False}
_ilif.__signature__ = _keywords(  # type: ignore[attr-defined]
    {"tau": 4 / 3, "v_threshold": 1.0, "max_spike_count": 4, "grad_window": None} | _COUNTS
)


PRESETS: dict[str, Callable[..., Spiking]] = {
    "spikingjelly.LIFNode": _spikingjelly(LIF, tau=2.0, decay_input=True),
    "spikingjelly.IFNode": _spikingjelly(IF),
    "spikingjelly.ParametricLIFNode": _spikingjelly(ParametricLIF, init_tau=2.0, decay_input=True),
    "spikingjelly.QIFNode": _spikingjelly(QIF, tau=2.0, v_c=0.8, a0=1.0, v_rest=0.0, v_reset=-0.1),
    "spikingjelly.EIFNode": _spikingjelly(EIF, tau=2.0, delta_T=1.0, theta_rh=0.8, v_rest=0.0, v_reset=-0.1),
    "spikingjelly.IzhikevichNode": _spikingjelly(
        Izhikevich, tau=2.0, v_c=0.8, a0=1.0, v_rest=-0.1, tau_w=2.0, a=0.0, b=0.0
    ),
    "spikingjelly.KLIFNode": _spikingjelly(_klif, tau=2.0, decay_input=True, scale_reset=False, k=1.0),
    "spikingjelly.ComplementaryLIFNode": _spikingjelly(
        equations.clif.layer, tau=2.0, v_reset=None, surrogate="rectangle"
    ),
    "spikingjelly.ILIFNode": _ilif,
    "spikingjelly.RAFNode": _spikingjelly(_raf, b=-0.2, omega=1.0, dt=1.0),
    "spikingjelly.TernaryIFNode": _spikingjelly(_ternary),
    "spikingjelly.TernaryLIFNode": _spikingjelly(_ternary, tau=2.0, decay_input=True),
    "snntorch.Leaky": _snntorch_leaky,
    "norse.LIFBoxCell": _norse_lif_box,
    "norse.LIFExCell": _norse(norse.LIFEx, **_CURRENT, delta_T=0.5),
    "norse.LIFAdExCell": _norse(norse.LIFAdEx, **_ADAPTIVE),
    "norse.LIFRefracCell": _norse(norse.LIFRefrac, **_CURRENT, rho_reset=5.0),
    "norse.LIFAdExRefracCell": _norse(norse.LIFAdExRefrac, **_ADAPTIVE, rho_reset=5.0),
    "norse.IzhikevichCell": _norse(
        norse.Izhikevich,
        **{"a": 0.02, "b": 0.2, "c": -65.0, "d": 6.0, "sq": 0.04, "mn": 5.0, "bias": 140.0},
        **{"v_th": 30.0, "tau_inv": 250.0},
    ),
}
PRESETS |= {
    f"spikingjelly.MultiStep{name}": PRESETS[f"spikingjelly.{name}"]
    for name in ("IFNode", "LIFNode", "ParametricLIFNode", "EIFNode")
}
