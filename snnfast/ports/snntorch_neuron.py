"""Base of snnTorch's neurons on the ops of this package, with snnTorch's call signatures: :class:`Neuron`."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from snnfast import check, ops
from snnfast.backend import BackendWarning

from .port import Memo, as_number, fire, fires_above
from .snntorch_functions import Steps, surrogate_of

__all__ = ["Neuron"]

# A reset by subtraction divides by beta; one that is learned stays above this.
LEAST_BETA = 1e-3
# Of ``threshold / beta``, by which the kernels' membrane is shifted: beyond, rounding in float32 would cost over 1e-6.
MOST_SHIFT = 16.0
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
        self.spike_grad = copy.deepcopy(surrogate_of(original), memo)
        self._choose()

    def _choose(self) -> None:
        """Whether an op does the steps, by the constants that there are."""
        self.least = LEAST_BETA if self.mechanism == "subtract" else 0.0
        self.why = self._why()
        self.least = 0.0 if self.why else self.least

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._choose()

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
        if self.mechanism == "zero" and (self.drops or not self.reset_delay):
            if bool((threshold < 0).any()):
                return "its threshold is negative: it fires while its reset holds it at 0"
            if self.reset_delay and threshold.requires_grad and "spk" in self.states:
                return "its threshold learns from steps in which it cannot fire"
        if bool((self._left() < self.least).any()):
            return f"a step leaves less than {LEAST_BETA} of its membrane"
        if self.mechanism == "subtract":
            shift = float((threshold / self._left()).detach().abs().max())
            if not shift <= MOST_SHIFT:
                return (
                    f"threshold / beta is {shift:g}, and a kernel, which shifts the membrane by as much, would round "
                    "it by more than 1e-6; for a readout that never fires take reset_mechanism='none'"
                )
        return ""

    def _left(self) -> Tensor:
        """Return the decay factor of the membrane per step."""
        return self.beta

    def reset_mem(self) -> Any:
        """Forgets the states; returns them at rest, empty, for a loop that hands them on."""
        self.reset()
        none = tuple(self.threshold.new_zeros(0) for _ in self.states)
        return none if len(none) > 1 else none[0]

    def forward(self, input_: Tensor, *states: Tensor | None, **named: Tensor | None) -> Any:
        """A step ``[B, ...]`` -> spikes, or spikes and states, as snnTorch's neuron returns them; or all steps."""
        if not self.stateful:
            self.reset()
        given = dict(zip(self.states, states)) | named
        if self.init_hidden and any(state is not None for state in given.values()):
            raise TypeError(
                f"{type(self).__name__}: with init_hidden=True states are not to be passed, got {', '.join(given)}"
            )
        for name, state in given.items():
            if state is not None:
                setattr(self, name, state)
        one = self.time_dim is None
        x = input_.unsqueeze(0) if one else input_
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
                f"{type(self).__name__} runs in plain PyTorch, which is slow: {self.why}", BackendWarning, stacklevel=2
            )
        spikes, *after = (self.steps if self.why else self.scan)(x, *before)
        last = after if one else [state[-1] for state in after]
        kept = vars(self)  # nn.Module's setattr takes longer than an op
        if self.stateful or not torch.compiler.is_compiling():
            kept.update(zip(self.states, last))
        self._keep(last[-1])
        kept["v_seq"] = self.time_first(after[-1]) if self.store_v_seq else None
        if one:
            spikes = last[0] if "spk" in self.states else spikes.squeeze(0)
        # snnTorch's inhibition passes over the factor.
        graded = self._graded() and not self.inhibition
        results = [spikes * self.graded_spikes_factor if graded else spikes]
        if self.output or not self.init_hidden:
            # Of all steps only the membrane is known.
            shown = last if one else [*last[:-1], after[-1]]
            results += [s for name, s in zip(self.states, shown) if name != "spk"]
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
        """As :meth:`steps`, by an op: spikes ``[T, B, ...]``, and the states after all steps.

        Of a single call they have no dimension of time, and are no views: what calls may detach them in place.
        """

    def _decay(self, name: str, x: Tensor) -> Any:
        value, least = as_number(getattr(self, name), x), self.least if name == "beta" else 0.0
        return value.clamp(least, 1.0) if isinstance(value, Tensor) else min(max(value, least), 1.0)

    def _low_passed(self, x: Tensor, state: Tensor, decay: Any) -> Tensor:
        """A state without a reset, after every step; after a single call without time."""
        every, last = ops.li(x, state, decay=decay, decay_input=False)
        return last if self.time_dim is None else every

    def _fires_at(self, membrane: Tensor, x: Tensor) -> Tensor:
        """Spikes ``[T, B, ...]`` of what :meth:`_low_passed` returns."""
        spikes = fire(self.spike_grad, membrane, as_number(self.threshold, x))
        return spikes.view(x.shape)

    def _last(self, state: Tensor) -> Tensor:
        """The state after the last step, as :meth:`scan` returns it."""
        return state if self.time_dim is None else state.unsqueeze(0)

    def _leaky(self, x: Tensor, mem: Tensor, beta: Any) -> tuple[Tensor, ...]:
        """Spikes and membranes before their reset, of a membrane with the decay ``beta`` that ``x`` charges."""
        if self.mechanism != "none":
            return self._integrate(ops.lif, x, mem, beta)
        membrane = self._low_passed(x, mem, beta)
        return self._fires_at(membrane, x), membrane

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
        firing = fires_above(self.spike_grad, taken)
        # Only what comes next needs the last one.
        one = self.time_dim is None
        every = self._shows() or (self.mechanism == "zero" and self.reset_delay)
        every = every and not one
        arguments = firing | reset | {"return_v_seq": every}
        spikes, last, *others = run(x, v=v, decay=beta, decay_input=False, **arguments)
        v_seq = last if one else others.pop() if every else last.unsqueeze(0)
        if self.mechanism == "subtract":
            now = spikes[0] if one else spikes if every else spikes[-1:]
            membrane = v_seq - rest + taken * now.detach()
            vars(self)["_end"] = last, rest
        elif self.reset_delay:
            charge = x if current is None else current(spikes)
            before = v if one else torch.cat([v.unsqueeze(0), v_seq[:-1]])
            membrane = beta * before + (charge[0] if one else charge)
            if self.drops:
                others.pop()  # r
                silent = fired if one else torch.cat([fired.unsqueeze(0), spikes[:-1] != 0])
                membrane = torch.where(silent, 0.0, membrane)
                if isinstance(threshold, Tensor) and threshold.requires_grad:
                    # snnTorch's threshold learns there, too.
                    quiet = fire(self.spike_grad, membrane, threshold).to(spikes)
                    spikes = torch.where(silent, quiet, spikes)
        else:
            membrane = v_seq
        return spikes, membrane, *others
