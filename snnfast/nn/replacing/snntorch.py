"""snnTorch's neurons on the ops of this package, by the calls of snnTorch: one step a call."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.backend import BackendWarning

from .port import Library, Memo, as_number, fire, fires_above, recurrent, refuse, with_spikes
from .snntorch_functions import Steps, surrogate_of

__all__ = ["SNNTORCH", "Neuron"]

# A reset by subtraction divides by beta; one that is learned stays above this.
LEAST_BETA = 1e-3
_SHARED = ("beta", "threshold", "graded_spikes_factor", "reset_mechanism_val")


class Neuron(Steps):
    """A neuron that takes a step a call, and whose membrane is the one before the reset.

    ``mem`` and the other states stay between calls, as snnTorch's do, and are zeros where a batch has another shape.
    """

    time_dim: int | None = None
    states: tuple[str, ...] = ("mem",)
    mem: Tensor | None
    beta: Tensor
    threshold: Tensor
    graded_spikes_factor: Tensor
    own: ClassVar[tuple[str, ...]] = ()
    # Whether a reset to zero with the next step leaves the membrane at 0 there, whatever comes: all but Leaky's does.
    drops: ClassVar[bool] = True

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        settings = ("inhibition", "state_quant")
        super().__init__(original, memo, (*_SHARED, *settings, *self.own))
        self.mechanism = original.reset_mechanism
        self.reset_delay = getattr(original, "reset_delay", True)
        for name in self.states:
            state = getattr(original, name)
            setattr(self, name, state.detach().clone() if state.numel() else None)
        self.init_hidden, self.output = original.init_hidden, original.output
        self.spike_grad = surrogate_of(original)
        self.least = LEAST_BETA if self.mechanism == "subtract" else 0.0
        self.why = self._why()
        self.least = 0.0 if self.why else self.least

    def _why(self) -> str:
        """Why every step runs in plain PyTorch; nothing where an op does the same."""
        threshold = self.threshold
        if self.inhibition:
            return "no kernel leaves one spike a sample"
        if self.state_quant:
            return "no kernel rounds its membrane"
        if self.mechanism == "subtract" and not self.reset_delay:
            # docs/semantics.md
            return "with reset_delay=False and a reset by subtraction it compares another membrane"
        if self.mechanism == "zero" and self.reset_delay and self.drops:
            if bool((threshold < 0).any()):
                return "its threshold is negative: it fires while its reset holds it at 0"
            if threshold.requires_grad and "spk" in self.states:
                return "its threshold learns from steps in which it cannot fire"
        if bool((self._left() < self.least).any()):
            return f"a step leaves less than {LEAST_BETA} of its membrane"
        return ""

    def _left(self) -> Tensor:
        """What is left of the membrane after a step."""
        return self.beta

    def reset_mem(self) -> Any:
        """Forgets the states; returns them at rest, empty, for a loop that hands them on."""
        self.reset()
        none = tuple(self.threshold.new_zeros(0) for _ in self.states)
        return none if len(none) > 1 else none[0]

    def forward(self, input_: Tensor, *states: Tensor | None, **named: Tensor | None) -> Any:
        """A step ``[B, ...]`` -> spikes, or spikes and states, as snnTorch's neuron returns them; or all steps."""
        if self.from_rest:
            self.reset()
        given = dict(zip(self.states, states)) | named
        if self.init_hidden and any(state is not None for state in given.values()):
            raise TypeError(
                f"{type(self).__name__}: with init_hidden=True states are not to be passed, got {', '.join(given)}"
            )
        for name, state in given.items():
            if state is not None:
                setattr(self, name, state)
        x = input_.unsqueeze(0) if self.time_dim is None else input_
        before = []
        for name in self.states:
            state = getattr(self, name)
            fits = state is not None and state.shape == x.shape[1:]
            if not fits:
                state = torch.zeros_like(x[0])
            elif name not in given:
                state = self._carried(name, state)
            before.append(state.to(check.state_dtype(x.dtype)))
        if self.why:
            warnings.warn(
                f"{type(self).__name__} runs in plain PyTorch, which is slow: {self.why}",
                BackendWarning,
                stacklevel=2,
            )
        spikes, *after = (self.steps if self.why else self.scan)(x, *before)
        one = self.time_dim is None
        last = [state.squeeze(0) if one else state[-1] for state in after]
        for name, state in zip(self.states, last):
            setattr(self, name, state)
        self._keep(last[-1])
        self.v_seq = after[-1] if self.store_v_seq else None
        spikes = spikes * self.graded_spikes_factor if self._graded() else spikes
        results = [spikes.squeeze(0) if one else spikes]
        if self.output or not self.init_hidden:
            shown = zip(self.states, last if one else after)
            results += [state for name, state in shown if name != "spk"]
        return results[0] if len(results) == 1 else tuple(results)

    def over_time(self, where: str) -> None:
        """Takes sequences ``[T, B, ...]`` from now on."""
        if not self.init_hidden:
            raise ValueError(
                f"replace: {where}, a {type(self).__name__}, hands its states on; sequences=True needs init_hidden=True"
            )
        if self.output and "syn" in self.states:
            raise ValueError(
                f"replace: {where}, a {type(self).__name__}, returns its current of every step; sequences=True needs "
                "output=False"
            )
        self.time_dim = 0

    @abstractmethod
    def scan(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`steps`, by an op."""

    def _decay(self, name: str, x: Tensor) -> Any:
        value, least = as_number(getattr(self, name), x), self.least if name == "beta" else 0.0
        return value.clamp(least, 1) if isinstance(value, Tensor) else min(max(value, least), 1.0)

    def _integrate(
        self,
        run: Callable[..., Any],
        x: Tensor,
        mem: Tensor,
        beta: Any,
        current: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Spikes, membranes before their reset, and what ``run`` returns besides; ``run`` calls the op.

        ``current`` gives what charges the membrane, of the spikes; None: it is ``x``.

        A reset to zero that drops what comes in the step after a spike is a refractory period of that step. A reset by
        subtraction takes the threshold off after the decay of the next step, so it takes ``threshold / beta`` off
        before; measured from ``-rest`` the membrane fires at what is taken off: docs/semantics.md.
        """
        threshold = as_number(self.threshold, x)
        if self.mechanism == "subtract":
            taken = threshold / beta
            rest = taken - threshold
            v = self._known(mem, rest)
            if v is None:
                v = mem + rest - taken * (mem > threshold).to(mem)
            reset = {"v_reset": None, "v_rest": rest, "detach_reset": True}
        else:
            taken = threshold
            delayed = self.reset_delay
            fired = mem > threshold
            v = torch.where(fired, 0.0, mem) if delayed else mem
            reset = {"v_reset": 0.0, "v_rest": 0.0, "detach_reset": delayed}
            if delayed and self.drops:
                reset |= {"refractory": 1, "r": fired.to(mem)}
        firing = fires_above(self.spike_grad, taken, x)
        # Only what comes next needs the last one.
        every = self._shows() or (self.mechanism == "zero" and self.reset_delay)
        every = every and len(x) > 1
        arguments = firing | reset | {"return_v_seq": every}
        spikes, last, *others = run(x, v=v, decay=beta, decay_input=False, **arguments)
        v_seq = others.pop() if every else last.unsqueeze(0)
        if self.mechanism == "subtract":
            membrane = v_seq - rest + taken * spikes[-len(v_seq) :].detach()
            self._end = last, rest
        elif self.reset_delay:
            charge = x if current is None else current(spikes)
            membrane = beta * torch.cat([v.unsqueeze(0), v_seq[:-1]]) + charge
            if self.drops:
                others.pop()  # r
                silent = torch.cat([fired.unsqueeze(0), spikes[:-1] != 0])
                membrane = torch.where(silent, 0.0, membrane)
                if isinstance(threshold, Tensor) and threshold.requires_grad:
                    # snnTorch's threshold learns there, too.
                    quiet = fire(self.spike_grad, membrane, threshold).to(spikes)
                    spikes = torch.where(silent, quiet, spikes)
        else:
            membrane = v_seq
        return spikes, membrane, *others


class Leaky(Neuron):
    """snnTorch's ``Leaky``: ``U[t+1] = beta U[t] + x[t+1] - R``."""

    drops = False

    def scan(self, x: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        beta = self._decay("beta", x)
        if self.mechanism == "none":
            membrane = ops.li(x, mem, decay=beta, decay_input=False)[0]
            return fire(self.spike_grad, membrane, as_number(self.threshold, x)), membrane
        return self._integrate(ops.lif, x, mem, beta)

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """``beta mem + x``."""
        return (self._decay("beta", x) * states[0] + x,)

    init_leaky = Neuron.reset_mem


class Lapicque(Neuron):
    """snnTorch's ``Lapicque``: ``U[t+1] = (1 - dt / RC) U[t] + dt / C x[t+1] - R``."""

    own = ("R", "C", "time_step")
    R: Any
    C: Any
    time_step: Any

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if original.beta.requires_grad:
            refuse(
                where, "learn_beta=True learns nothing: snnTorch computes R and C from beta once"
            )
        super().__init__(where, original, memo)

    def _left(self) -> Tensor:
        return torch.as_tensor(1 - self.time_step / (self.R * self.C))

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """``(1 - dt / RC) mem + dt / C x``."""
        r, c, step = (as_number(getattr(self, name), x) for name in self.own)
        return (x * r * (1 / (r * c)) * step + (1 - step / (r * c)) * states[0],)

    def scan(self, x: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        r, c, step = (as_number(getattr(self, name), x) for name in self.own)
        x = x * (r * (1 / (r * c)) * step)
        beta = 1 - step / (r * c)
        if self.mechanism == "none":
            membrane = ops.li(x, mem, decay=beta, decay_input=False)[0]
            return fire(self.spike_grad, membrane, as_number(self.threshold, x)), membrane
        return self._integrate(ops.lif, x, mem, beta)

    init_lapicque = Neuron.reset_mem


class Synaptic(Neuron):
    """snnTorch's ``Synaptic``: ``I[t+1] = alpha I[t] + x[t+1]``, which is the input of :class:`Leaky`."""

    states = ("syn", "mem")
    syn: Tensor | None
    own = ("alpha",)

    def scan(self, x: Tensor, syn: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        beta, alpha = self._decay("beta", x), self._decay("alpha", x)
        if self.mechanism == "none":
            membrane, _, syn = ops.cubali(
                x, mem, syn, decay=beta, decay_syn=alpha, decay_input=False
            )
            spikes = fire(self.spike_grad, membrane, as_number(self.threshold, x))
            return spikes, syn.unsqueeze(0), membrane

        def run(x: Tensor, **arguments: Any) -> Any:
            return ops.cuba(x, i=syn, decay_syn=alpha, **arguments)

        def current(spikes: Tensor) -> Tensor:
            currents: Tensor = ops.li(x, syn, decay=alpha, decay_input=False)[0]
            return currents

        spikes, membrane, last = self._integrate(run, x, mem, beta, current)
        return spikes, last.unsqueeze(0), membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """``alpha syn + x``, and ``beta mem`` and that."""
        syn, mem = states
        syn = self._decay("alpha", x) * syn + x
        return syn, self._decay("beta", x) * mem + syn

    init_synaptic = Neuron.reset_mem


class Alpha(Neuron):
    """snnTorch's ``Alpha``: its membrane is the sum of two currents, which its reset changes, too."""

    states = ("syn_exc", "syn_inh", "mem")
    own = ("alpha",)

    def _why(self) -> str:
        return super()._why() or ("" if self.mechanism == "none" else "its reset changes currents")

    def scan(self, x: Tensor, exc: Tensor, inh: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        alpha, beta = self._decay("alpha", x), self._decay("beta", x)
        exc = ops.li(x, exc, decay=alpha, decay_input=False)[0]
        inh = ops.li(-x, inh, decay=beta, decay_input=False)[0]
        membrane = self._membrane(exc, inh, alpha, beta)
        return fire(self.spike_grad, membrane, as_number(self.threshold, x)), exc, inh, membrane

    @staticmethod
    def _membrane(exc: Tensor, inh: Tensor, alpha: Any, beta: Any) -> Tensor:
        log_alpha, log_beta = (
            (v if isinstance(v, Tensor) else torch.tensor(v)).log() for v in (alpha, beta)
        )
        return (log_alpha / (log_beta - log_alpha) + 1) * (exc + inh)

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Both currents, and the membrane."""
        alpha, beta = self._decay("alpha", x), self._decay("beta", x)
        exc, inh = alpha * states[0] + x, beta * states[1] - x
        return exc, inh, self._membrane(exc, inh, alpha, beta)

    def reset_by(
        self, reset: Tensor, x: Tensor, before: tuple[Tensor, ...], after: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """All states at 0; by subtraction as snnTorch has it, the threshold off one current and the other one at 0."""
        if self.mechanism != "subtract":
            return tuple(state - reset * state for state in after)
        exc, inh, mem = after
        return exc - reset * self.threshold, inh - reset * inh, mem + reset * before[1]

    init_alpha = Neuron.reset_mem


class _Recurrent(Neuron):
    """A neuron whose spikes come back through ``recurrent``."""

    recurrent: nn.Module
    V: Tensor

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if not original.reset_delay and type(original).__name__ == "RSynaptic":
            refuse(
                where,
                "reset_delay=False of RSynaptic resets the membrane that it was given, not its own",
            )
        self.is_matrix = type(original.recurrent).__name__ in ("Linear", "RecurrentOneToOne")
        one_to_one = ("V",) if hasattr(original, "V") else ()
        self.own = (*self.own, *one_to_one, "recurrent")  # type: ignore[misc]
        super().__init__(where, original, memo)

    def _why(self) -> str:
        if not self.is_matrix:
            return f"no kernel has recurrent connections by a {type(self.recurrent).__name__}"
        return super()._why() or (
            "no kernel is recurrent without a reset" if self.mechanism == "none" else ""
        )

    def _back(self, x: Tensor, spk: Tensor) -> Tensor:
        """What comes back of the spikes of the step before."""
        if isinstance(self.recurrent, nn.Linear) or not self.is_matrix:
            back: Tensor = self.recurrent(spk)
            return back
        return spk * self.V

    def _weight(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrent matrix, and ``x`` with the bias."""
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
        """That of spikes, which come back with the next step, also of the next call."""
        called = self.why and isinstance(self.recurrent, nn.Linear)  # and so it is seen
        if self.is_matrix and not called:
            yield "recurrent", self._weight(spikes)[0], spikes


class RLeaky(_Recurrent):
    """snnTorch's ``RLeaky``: :class:`Leaky` whose spikes come back."""

    states = ("spk", "mem")

    def scan(self, x: Tensor, spk: Tensor, mem: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        weight, x = self._weight(x)

        def run(x: Tensor, **arguments: Any) -> Any:
            return recurrent(x, weight, spk, neuron="lif", **arguments)

        spikes, membrane = self._integrate(
            *(run, x, mem, self._decay("beta", x)),
            lambda spikes: with_spikes(x, spk, weight, spikes),
        )
        return spikes, spikes, membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """That of :class:`Leaky`, and what comes back."""
        spk, mem = states
        return (self._decay("beta", x) * mem + x + self._back(x, spk),)

    init_rleaky = Neuron.reset_mem


class RSynaptic(_Recurrent):
    """snnTorch's ``RSynaptic``: :class:`Synaptic` whose spikes come back into its current."""

    states = ("spk", "syn", "mem")
    own = ("alpha",)

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
        return spikes, spikes, last.unsqueeze(0), membrane

    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """That of :class:`Synaptic`, and what comes back, in its current."""
        spk, syn, mem = states
        syn = self._decay("alpha", x) * syn + x + self._back(x, spk)
        return syn, self._decay("beta", x) * mem + syn

    init_rsynaptic = Neuron.reset_mem


SNNTORCH = Library(
    name="snntorch",
    neurons={kind.__name__: kind for kind in (Leaky, Lapicque, Synaptic, Alpha, RLeaky, RSynaptic)},
    refused={},
    bases=frozenset({"SpikingNeuron"}),
    package="_neurons",
)
