"""Norse's neurons that the package has: states as named tuples, and one class per cell or layer."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import check, ops
from snnfast.reference import surrogate

from .port import Looping, Memo, Port, as_number, fires_above, recurrent, refuse, with_spikes

__all__: list[str] = []


# Norse's states, by its names.
class BoxState(NamedTuple):
    """The state of a neuron without a synaptic current."""

    v: Tensor


class CurrentState(NamedTuple):
    """The state of a neuron with a synaptic current."""

    v: Tensor
    i: Tensor


class AdaptiveState(NamedTuple):
    """The state of a neuron with an adaptive threshold ``b``."""

    v: Tensor
    i: Tensor
    b: Tensor


class RecurrentState(NamedTuple):
    """The state of a recurrent neuron with spikes ``z``."""

    z: Tensor
    v: Tensor
    i: Tensor


class RecurrentAdaptiveState(NamedTuple):
    """The state of a recurrent neuron with spikes ``z`` and an adaptive threshold ``b``."""

    z: Tensor
    v: Tensor
    i: Tensor
    b: Tensor


class AdaptiveCurrentState(NamedTuple):
    """The state of a neuron with an adaptation current ``a``."""

    v: Tensor
    i: Tensor
    a: Tensor


class RecurrentAdaptiveCurrentState(NamedTuple):
    """The state of a recurrent neuron with spikes ``z`` and an adaptation current ``a``."""

    z: Tensor
    v: Tensor
    i: Tensor
    a: Tensor


class RecoveryState(NamedTuple):
    """The state of a neuron with a recovery variable ``u``."""

    v: Tensor
    u: Tensor


class RecurrentRecoveryState(NamedTuple):
    """The state of a recurrent neuron with spikes ``z`` and a recovery variable ``u``."""

    z: Tensor
    v: Tensor
    u: Tensor


class RefractoryState(NamedTuple):
    """The state of a neuron that is refractory while ``rho`` is above 0."""

    lif: Any
    rho: Tensor


class RefractoryAdaptiveState(NamedTuple):
    """The state of a neuron with an adaptation current that is refractory while ``rho`` is above 0."""

    lif_adex: Any
    rho: Tensor


class Threshold:
    """Norse's spike function of a method without a kernel; the reference runs it."""

    def __init__(self, method: str, alpha: Any) -> None:
        self.method, self.alpha = method, alpha

    def __call__(self, u: Tensor) -> Tensor:
        """Return the spikes of ``u = h - v_threshold``."""
        norse = importlib.import_module("norse.torch.functional.threshold")
        spikes: Tensor = norse.threshold(u, self.method, self.alpha)
        return spikes


class _Neuron(Looping, Port, ABC):
    """A neuron with its parameters ``p``, which keeps no state between calls.

    A ``...Cell`` takes one step per call, the others take a sequence ``[T, ...]``.

    Args:
        where: names the neuron in errors.
        original, memo: as in :class:`Port`.
    """

    names: tuple[str, ...] = ("p", "dt")
    names_of_states = ("state",)
    state_results = (1,)
    every_step = (0,)
    first_states_optional = True
    p: Any
    dt: Any

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        step = getattr(getattr(original, "activation", None), "__name__", "")
        if "adjoint" in step:
            refuse(where, f"{step} has the gradient of an adjoint equation")
        super().__init__(original, memo, self.names)
        self.record_states = bool(getattr(original, "record_states", False))
        self.time_dim = None if type(original).__name__.endswith("Cell") else 0
        # The parameters of a refractory neuron hold those of the neuron.
        self.inner = getattr(self.p, "lif", getattr(self.p, "lif_adex", self.p))
        method = getattr(self.inner, "method", "super")
        if method == "logistic":
            refuse(where, "its method 'logistic' draws spikes at random")
        # Norse's cells ignore their alpha for the default surrogate.
        alpha = getattr(self.inner, "alpha", None)
        self.spike_function = surrogate.fast_sigmoid(1.0) if method == "super" else Threshold(method, alpha)

    def forward(self, input_tensor: Tensor, state: Any = None) -> Any:
        """Return ``(output, state)`` of a step or of a sequence."""
        if self.time_dim == 0:
            return self.scan(input_tensor, state)
        out, state = self.scan(input_tensor.unsqueeze(0), state)
        return out.squeeze(0), state

    @property
    def _watched(self) -> bool:
        """True if the membranes of every step are returned or stored."""
        return self.record_states or self.store_v_seq

    def _show(self, v_seq: list[Tensor]) -> None:
        self.v_seq = v_seq[0] if self.store_v_seq else None

    @abstractmethod
    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Run all steps of ``x`` ``[T, ...]``; return outputs and the last state, with ``record_states`` all."""

    def _decay(self, rate: str, x: Tensor) -> Any:
        """Return the decay ``1 - dt / tau`` of Euler's method."""
        return 1 - as_number(getattr(self.p, rate), x) * self.dt

    def _leak(self, x: Tensor) -> dict[str, Any]:
        return {"decay": self._decay("tau_mem_inv", x), "decay_input": True, "v_rest": as_number(self.p.v_leak, x)}

    def _firing(self, x: Tensor) -> dict[str, Any]:
        threshold = as_number(self.p.v_th, x)
        reset = {"v_reset": as_number(self.p.v_reset, x)}
        return self._leak(x) | reset | fires_above(self.spike_function, threshold)

    def _membrane(self, x: Tensor, state: Any) -> Tensor:
        """Return the membrane before the first step: at rest ``v_leak``, without a gradient."""
        return self._state(_at_rest(self.p.v_leak) if state is None else state.v, x)

    def _state(self, value: Any, x: Tensor) -> Tensor:
        state = torch.as_tensor(value).to(x.device, check.state_dtype(x.dtype))
        return state if state.shape == x.shape[1:] else state.expand(x.shape[1:])


def _at_rest(value: Any) -> Tensor:
    """Return a parameter as an initial state, without its graph."""
    return torch.as_tensor(value).detach()


class LIFBox(_Neuron):
    """Norse's ``LIFBoxCell``: ``v[t] = v + dt / tau_mem (v_leak - v + x[t])``."""

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        super().__init__(where, original, memo)
        reset = getattr(self.p.reset_method, "__name__", "")
        if reset not in ("reset_value", "reset_subtract"):
            refuse(where, f"its reset_method {reset or self.p.reset_method} is not one of Norse's")
        self.soft = reset == "reset_subtract"

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        v = self._membrane(x, state)
        firing = self._firing(x) | ({"v_reset": None} if self.soft else {})
        spikes, v, *v_seq = ops.lif(x, v, **firing, return_v_seq=self.store_v_seq)
        self._show(v_seq)
        return spikes, BoxState(v)


class IAF(_Neuron):
    """Norse's ``IAF`` and ``IAFCell``, without leak."""

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        v_reset = as_number(self.p.v_reset, x)
        v = self._state(self.p.v_reset if state is None else state.v, x)
        firing = fires_above(self.spike_function, as_number(self.p.v_th, x))
        spikes, v, *v_seq = ops.iaf(x, v, v_reset=v_reset, **firing, return_v_seq=self._watched)
        self._show(v_seq)
        return spikes, BoxState(v_seq[0] if self.record_states else v)


class LIBox(_Neuron):
    """Norse's ``LIBoxCell``, which never fires."""

    fires = False

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        v = self._membrane(x, state)
        v_seq, v = ops.li(x, v, **self._leak(x))
        return v_seq, BoxState(v)


class _Synaptic(_Neuron):
    """A neuron whose input is added to a current, which drives the membrane and then decays."""

    def _begin(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor]:
        """Return the input plus the current of the state, and the membrane."""
        v = self._membrane(x, state)
        if state is None:
            return x, v
        # The current in Norse's state has decayed already, so it is an input of the first step.
        i = self._state(state.i, x)
        drive = x + i if len(x) == 1 else torch.cat([x[:1] + i, x[1:]])
        return drive, v

    def _currents(self, drive: Tensor, decay_syn: Any) -> Tensor:
        """Return Norse's current after every step."""
        currents: Tensor = ops.li(drive, decay=decay_syn, decay_input=False)[0]
        scaled: Tensor = decay_syn * currents
        return scaled


class LIF(_Synaptic):
    """Norse's ``LIF`` and ``LIFCell``."""

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        decay_syn = self._decay("tau_syn_inv", x)
        drive, v = self._begin(x, state)
        spikes, v, i, *v_seq = ops.cuba(drive, v, decay_syn=decay_syn, **self._firing(x), return_v_seq=self._watched)
        self._show(v_seq)
        if self.record_states:
            return spikes, CurrentState(v_seq[0], self._currents(drive, decay_syn))
        return spikes, CurrentState(v, decay_syn * i)


class LI(_Synaptic):
    """Norse's ``LI`` and ``LICell``, which never fire."""

    fires = False

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        decay_syn = self._decay("tau_syn_inv", x)
        drive, v = self._begin(x, state)
        v_seq, v, i = ops.cubali(drive, v, decay_syn=decay_syn, **self._leak(x))
        if self.record_states:
            return v_seq, CurrentState(v_seq, self._currents(drive, decay_syn))
        return v_seq, CurrentState(v, decay_syn * i)


class LILinear(LI):
    """Norse's ``LILinearCell``, with its weights."""

    names = (*LI.names, "input_size", "hidden_size", "input_weights")
    input_weights: Tensor

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().scan(functional.linear(x, self.input_weights), state)

    def products(self, x: Tensor, spikes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the product of the input weights."""
        yield "input_weights", self.input_weights, x


class _Recurrent(_Neuron, ABC):
    """A neuron with Norse's input weights and recurrent weights."""

    input_weights: Tensor
    recurrent_weights: Tensor
    autapses: bool

    names = (*_Neuron.names, *("autapses", "input_size", "hidden_size", "input_weights", "recurrent_weights"))

    def _weight(self, x: Tensor) -> Tensor:
        """Return the recurrent weights in the dtype of the states of ``x``."""
        weight = self.recurrent_weights.to(check.state_dtype(x.dtype))
        if self.autapses:
            return weight
        # Norse keeps the values of the diagonal, with gradient 0.
        diagonal = torch.eye(len(weight), dtype=torch.bool, device=weight.device)
        return torch.where(diagonal, weight.detach(), weight)

    def products(self, x: Tensor, spikes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the products of the input and recurrent weights; spikes arrive at the next step, also across calls."""
        yield "input_weights", self.input_weights, x
        yield "recurrent_weights", self.recurrent_weights, spikes


class LIFRecurrent(_Recurrent, _Synaptic):
    """Norse's ``LIFRecurrent`` and ``LIFRecurrentCell``."""

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = functional.linear(x, self.input_weights)
        weight = self._weight(x)
        decay_syn = self._decay("tau_syn_inv", x)
        drive, v = self._begin(x, state)
        z = None if state is None else self._state(state.z, x)
        spikes, v, i, *v_seq = recurrent(
            *(drive, weight, z),
            neuron="cuba",
            v=v,
            decay_syn=decay_syn,
            detach_reset=True,
            return_v_seq=self._watched,
            **self._firing(x),
        )
        self._show(v_seq)
        if not self.record_states:
            return spikes, RecurrentState(spikes[-1], v, decay_syn * i)
        sent = torch.zeros_like(spikes[0]) if z is None else z
        currents = self._currents(with_spikes(drive, sent, weight, spikes), decay_syn)
        return spikes, RecurrentState(spikes, v_seq[0], currents)


class LSNN(_Neuron):
    """Norse's ``LSNN`` and ``LSNNCell``: driven by the current of the previous step; ``b`` decays to ``v_th``."""

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        super().__init__(where, original, memo)
        if bool((torch.as_tensor(self.p.beta) == 0).any()):
            refuse(where, "beta must not be 0")

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        decay_syn, decay_b = self._decay("tau_syn_inv", x), self._decay("tau_adapt_inv", x)
        beta, v_th = as_number(self.p.beta, x), as_number(self.p.v_th, x)
        i = self._state(0.0 if state is None else state.i, x)
        v = self._membrane(x, state)
        a = (self._state(_at_rest(self.p.v_th) if state is None else state.b, x) - v_th) / beta
        currents, i_last = ops.li(x, i, decay=decay_syn, decay_input=False)
        drive = torch.cat([i.unsqueeze(0), currents[:-1]])
        drive = drive.to(x.dtype)
        adaptation = {"beta": decay_b * beta, "decay_adapt": decay_b}
        spikes, v, a_last, *v_seq = ops.alif(drive, v, a, **adaptation, **self._firing(x), return_v_seq=self._watched)
        self._show(v_seq)
        if not self.record_states:
            return spikes, AdaptiveState(v, i_last, v_th + beta * a_last)
        a_seq = ops.li(spikes, a, decay=decay_b, decay_input=False)[0]
        return spikes, AdaptiveState(v_seq[0], currents, v_th + beta * a_seq)


class LSNNRecurrent(_Recurrent):
    """Norse's ``LSNNRecurrent`` and ``LSNNRecurrentCell``: spikes drive the membrane two steps later.

    Spikes change the threshold without a gradient. No kernel does that over time, so every step is a call of
    :func:`snnfast.ops.lif`.
    """

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = functional.linear(x, self.input_weights)
        weight, firing = self._weight(x), self._firing(x)
        decay_syn, decay_b = self._decay("tau_syn_inv", x), self._decay("tau_adapt_inv", x)
        beta, v_th = as_number(self.p.beta, x), as_number(self.p.v_th, x)
        rest: Any = (0.0, _at_rest(self.p.v_leak), 0.0, _at_rest(self.p.v_th))
        z, v, i, b = (self._state(value, x) for value in (rest if state is None else state))
        rows = []
        for step in x:
            b = v_th + decay_b * (b - v_th)
            firing["v_threshold"] = b
            spikes, v_next = ops.lif(i.unsqueeze(0).to(x.dtype), v, **firing, detach_reset=True)
            i = decay_syn * i + step + functional.linear(z, weight)
            z, v = spikes[0].to(i), v_next
            b = b + beta * z.detach()
            rows.append((z, v, i, b))
        every = (
            [torch.stack(values) for values in zip(*rows)]
            if len(rows) > 1
            else [value.unsqueeze(0) for value in rows[0]]
        )
        self._show([every[1]])
        last = every if self.record_states else rows[-1]
        return every[0].to(x.dtype), RecurrentAdaptiveState(*last)
