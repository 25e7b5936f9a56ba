"""snnTorch's neurons on the ops of this package, with snnTorch's call signatures: one step per call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops

from .port import Library, Memo, as_number, recurrent, refuse, with_spikes
from .snntorch_neuron import SnntorchNeuron

__all__ = ["SNNTORCH"]


class Leaky(SnntorchNeuron):
    """snnTorch's ``Leaky``: ``U[t+1] = beta U[t] + x[t+1] - R``."""

    drops = False

    def scan(self, x: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self._leaky(x, mem, self._decay("beta", x))

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``beta mem + x``."""
        return (self._decay("beta", x) * states[0] + x,)

    init_leaky = SnntorchNeuron.reset_mem


class Lapicque(SnntorchNeuron):
    """snnTorch's ``Lapicque``: ``U[t+1] = (1 - dt / RC) U[t] + dt / C x[t+1] - R``."""

    extra_names = ("R", "C", "time_step")
    R: Any
    C: Any
    time_step: Any

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if original.beta.requires_grad:
            refuse(where, "learn_beta=True learns nothing: snnTorch computes R and C from beta once")
        super().__init__(where, original, memo)

    def _membrane_decay(self) -> Tensor:
        return torch.as_tensor(1 - self.time_step / (self.R * self.C))

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``(1 - dt / RC) mem + dt / C x``."""
        r, c, step = (as_number(getattr(self, name), x) for name in self.extra_names)
        return (x * r * (1 / (r * c)) * step + (1 - step / (r * c)) * states[0],)

    def scan(self, x: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        r, c, step = (as_number(getattr(self, name), x) for name in self.extra_names)
        x = x * (r * (1 / (r * c)) * step)
        return self._leaky(x, mem, 1 - step / (r * c))

    init_lapicque = SnntorchNeuron.reset_mem


class Synaptic(SnntorchNeuron):
    """snnTorch's ``Synaptic``: ``I[t+1] = alpha I[t] + x[t+1]`` drives :class:`Leaky`."""

    states = ("syn", "mem")
    syn: Tensor | None
    extra_names = ("alpha",)

    def scan(self, x: Tensor, syn: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        beta, alpha = self._decay("beta", x), self._decay("alpha", x)
        if self.mechanism == "none":
            every, last, syn = ops.cubali(x, mem, syn, decay=beta, decay_syn=alpha, decay_input=False)
            membrane = last if self.time_dim is None else every
            return self._fires_at(membrane, x), self._last(syn), membrane

        def run(x: Tensor, **arguments: Any) -> Any:
            return ops.cuba(x, i=syn, decay_syn=alpha, **arguments)

        def current(spikes: Tensor) -> Tensor:
            currents: Tensor = ops.li(x, syn, decay=alpha, decay_input=False)[0]
            return currents

        spikes, membrane, last = self._integrate(run, x, mem, beta, current)
        return spikes, self._last(last), membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``alpha syn + x``, and ``beta mem`` plus that current."""
        syn, mem = states
        syn = self._decay("alpha", x) * syn + x
        return syn, self._decay("beta", x) * mem + syn

    init_synaptic = SnntorchNeuron.reset_mem


class Alpha(SnntorchNeuron):
    """snnTorch's ``Alpha``: its membrane is a sum of two currents, which the reset changes, too."""

    states = ("syn_exc", "syn_inh", "mem")
    extra_names = ("alpha",)

    def _why(self) -> str:
        return super()._why() or ("" if self.mechanism == "none" else "its reset changes currents")

    def scan(self, x: Tensor, exc: Tensor, inh: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        alpha, beta = self._decay("alpha", x), self._decay("beta", x)
        exc, inh = self._low_passed(x, exc, alpha), self._low_passed(-x, inh, beta)
        membrane = self._membrane(exc, inh, alpha, beta)
        return self._fires_at(membrane, x), exc, inh, membrane

    @staticmethod
    def _membrane(exc: Tensor, inh: Tensor, alpha: Any, beta: Any) -> Tensor:
        log_alpha, log_beta = ((v if isinstance(v, Tensor) else torch.tensor(v)).log() for v in (alpha, beta))
        return (log_alpha / (log_beta - log_alpha) + 1) * (exc + inh)

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return both currents, and the membrane."""
        alpha, beta = self._decay("alpha", x), self._decay("beta", x)
        exc, inh = alpha * states[0] + x, beta * states[1] - x
        return exc, inh, self._membrane(exc, inh, alpha, beta)

    def reset_by(self, reset: Tensor, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Reset all states to 0; by subtraction, reduce one current by the threshold and zero the other (snnTorch)."""
        if self.mechanism == "none":
            return after
        if self.mechanism == "zero":
            return tuple(state - reset * state for state in after)
        exc, inh, mem = after
        return exc - reset * self.threshold, inh - reset * inh, mem + reset * before[1]

    init_alpha = SnntorchNeuron.reset_mem


class _Recurrent(SnntorchNeuron):
    """A neuron with recurrent connections ``recurrent``."""

    recurrent: nn.Module
    V: Tensor

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if not original.reset_delay and type(original).__name__ == "RSynaptic":
            refuse(where, "reset_delay=False of RSynaptic resets the membrane that it was given, not its own")
        self.is_matrix = type(original.recurrent).__name__ in ("Linear", "RecurrentOneToOne")
        one_to_one = ("V",) if hasattr(original, "V") else ()
        self.extra_names = (*self.extra_names, *one_to_one, "recurrent")  # type: ignore[misc]
        super().__init__(where, original, memo)

    def _why(self) -> str:
        if not self.is_matrix:
            return f"no kernel has recurrent connections by a {type(self.recurrent).__name__}"
        return super()._why() or ("no kernel is recurrent without a reset" if self.mechanism == "none" else "")

    def _back(self, spk: Tensor) -> Tensor:
        """Return the recurrent input from the spikes of the previous step."""
        if isinstance(self.recurrent, nn.Linear) or not self.is_matrix:
            back: Tensor = self.recurrent(spk)
            return back
        return spk * self.V

    def _sent(self, spikes: Tensor) -> Tensor:
        """Return spikes in the shape of a state that :meth:`scan` returns."""
        return torch.squeeze_copy(spikes, 0) if self.time_dim is None else spikes

    def _weight(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the recurrent matrix, and ``x`` plus the bias."""
        features = x.shape[-1]
        if not isinstance(self.recurrent, nn.Linear):
            v = self.V
            if v.dim() > 1 or v.numel() not in (1, features):
                raise ValueError(
                    f"{type(self).__name__}: V must be a number or have shape [{features}], got {list(v.shape)}"
                )
            return torch.diag(v.to(check.state_dtype(x.dtype)).expand(features)), x
        weight, bias = self.recurrent.weight, self.recurrent.bias
        return weight.to(check.state_dtype(x.dtype)), x if bias is None else x + bias

    def products(self, x: Tensor, spikes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the product of the recurrent weights; spikes arrive at the next step, also across calls."""
        called = self.why and isinstance(self.recurrent, nn.Linear)  # a monitor observes that layer itself
        if self.is_matrix and not called:
            yield "recurrent", self._weight(spikes)[0], spikes


class RLeaky(_Recurrent):
    """snnTorch's ``RLeaky``: recurrent :class:`Leaky`."""

    states = ("spk", "mem")

    def scan(self, x: Tensor, spk: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        weight, x = self._weight(x)

        def run(x: Tensor, **arguments: Any) -> Any:
            return recurrent(x, weight, spk, neuron="lif", **arguments)

        spikes, membrane = self._integrate(
            *(run, x, mem, self._decay("beta", x)), lambda spikes: with_spikes(x, spk, weight, spikes)
        )
        return spikes, self._sent(spikes), membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``beta mem + x`` plus the recurrent input."""
        spk, mem = states
        return (self._decay("beta", x) * mem + x + self._back(spk),)

    init_rleaky = SnntorchNeuron.reset_mem


class RSynaptic(_Recurrent):
    """snnTorch's ``RSynaptic``: :class:`Synaptic` with recurrent input to its current."""

    states = ("spk", "syn", "mem")
    extra_names = ("alpha",)

    def scan(self, x: Tensor, spk: Tensor, syn: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        weight, x = self._weight(x)
        alpha = self._decay("alpha", x)

        def run(x: Tensor, **arguments: Any) -> Any:
            arguments |= {"i": syn, "decay_syn": alpha}
            return recurrent(x, weight, spk, neuron="cuba", **arguments)

        def current(spikes: Tensor) -> Tensor:
            driven = with_spikes(x, spk, weight, spikes)
            currents: Tensor = ops.li(driven, syn, decay=alpha, decay_input=False)[0]
            return currents

        spikes, membrane, last = self._integrate(run, x, mem, self._decay("beta", x), current)
        return spikes, self._sent(spikes), self._last(last), membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return ``alpha syn + x`` plus the recurrent input, and ``beta mem`` plus that current."""
        spk, syn, mem = states
        syn = self._decay("alpha", x) * syn + x + self._back(spk)
        return syn, self._decay("beta", x) * mem + syn

    init_rsynaptic = SnntorchNeuron.reset_mem


SNNTORCH = Library(
    name="snntorch",
    neurons={kind.__name__: kind for kind in (Leaky, Lapicque, Synaptic, Alpha, RLeaky, RSynaptic)},
    refused={},
    bases=frozenset({"SpikingNeuron"}),
    package="_neurons",
)
