"""Base of snnTorch's neurons on the ops of this package, with snnTorch's call signatures: :class:`SnntorchNeuron`."""

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

__all__ = ["SnntorchNeuron"]

# A reset by subtraction divides by beta; a learned beta is clamped to at least this.
LEAST_BETA = 1e-3
# Largest ``threshold / beta``, by which the kernels shift the membrane: beyond it, float32 rounding exceeds 1e-6.
MOST_SHIFT = 16.0
_SHARED = ("beta", "threshold", "graded_spikes_factor", "reset_mechanism_val")


class SnntorchNeuron(Steps):
    """A neuron that takes one step per call and returns the membrane before the reset.

    ``mem`` and the other states persist between calls, as in snnTorch, and become zeros if the batch shape changes.
    """

    time_dim: int | None = None
    states: tuple[str, ...] = ("mem",)
    mem: Tensor | None
    beta: Tensor
    threshold: Tensor
    graded_spikes_factor: Tensor
    extra_names: ClassVar[tuple[str, ...]] = ()
    # Whether a delayed reset to zero sets the membrane of that step to 0, whatever the input: all except Leaky.
    drops: ClassVar[bool] = True

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        settings = ("inhibition", "state_quant")
        super().__init__(original, memo, (*_SHARED, *settings, *self.extra_names))
        self.mechanism = original.reset_mechanism
        self.reset_delay = getattr(original, "reset_delay", True)
        for name in self.states:
            state = getattr(original, name)
            setattr(self, name, state.detach().clone() if state.numel() else None)
        self.init_hidden, self.output = original.init_hidden, original.output
        self.spike_grad = copy.deepcopy(surrogate_of(original), memo)
        self._choose()

    def _choose(self) -> None:
        """Choose between an op and plain PyTorch by the constants."""
        self.least = LEAST_BETA if self.mechanism == "subtract" else 0.0
        self.why = self._why()
        self.least = 0.0 if self.why else self.least

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._choose()

    def _why(self) -> str:
        """Return why every step runs in plain PyTorch; empty if an op does the same."""
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
        if bool((self._membrane_decay() < self.least).any()):
            return f"a step leaves less than {LEAST_BETA} of its membrane"
        if self.mechanism == "subtract":
            shift = float((threshold / self._membrane_decay()).detach().abs().max())
            if not shift <= MOST_SHIFT:
                return (
                    f"threshold / beta is {shift:g}, and a kernel, which shifts the membrane by as much, would round "
                    "it by more than 1e-6; for a readout that never fires take reset_mechanism='none'"
                )
        return ""

    def _membrane_decay(self) -> Tensor:
        """Return the decay factor of the membrane per step."""
        return self.beta

    def reset_mem(self) -> Any:
        """Discard the states; return empty states, which mean rest, for a loop that passes them."""
        self.reset()
        none = tuple(self.threshold.new_zeros(0) for _ in self.states)
        return none if len(none) > 1 else none[0]

    def forward(self, input_: Tensor, *states: Tensor | None, **named: Tensor | None) -> Any:
        """Input ``[B, ...]``, or a sequence, -> spikes, or spikes and states, as snnTorch's neuron returns them."""
        if not self.stateful:
            self.reset()
        passed = dict(zip(self.states, states)) | named
        if self.init_hidden and any(state is not None for state in passed.values()):
            raise TypeError(
                f"{type(self).__name__}: with init_hidden=True states are not to be passed, got {', '.join(passed)}"
            )
        for name, state in passed.items():
            if state is not None:
                setattr(self, name, state)
        single_step = self.time_dim is None
        x = input_.unsqueeze(0) if single_step else input_
        before = []
        for name in self.states:
            state = getattr(self, name)
            same_shape = state is not None and state.shape == x.shape[1:]
            if not same_shape:
                state = torch.zeros_like(x[0])
            elif name not in passed:
                state = self._carried(name, state)
            before.append(state.to(check.state_dtype(x.dtype)))
        if self.why:
            warnings.warn(
                f"{type(self).__name__} runs in plain PyTorch, which is slow: {self.why}", BackendWarning, stacklevel=2
            )
        spikes, *after = (self.steps if self.why else self.scan)(x, *before)
        last = after if single_step else [state[-1] for state in after]
        attributes = vars(self)  # nn.Module.__setattr__ is slower than an op
        if self.stateful or not torch.compiler.is_compiling():
            attributes.update(zip(self.states, last))
        self._keep(last[-1])
        attributes["v_seq"] = self.time_first(after[-1]) if self.store_v_seq else None
        if single_step:
            spikes = last[0] if "spk" in self.states else spikes.squeeze(0)
        # snnTorch's inhibition ignores the factor.
        graded = self._graded() and not self.inhibition
        results = [spikes * self.graded_spikes_factor if graded else spikes]
        if self.output or not self.init_hidden:
            # Only the membrane has values for all steps.
            shown = last if single_step else [*last[:-1], after[-1]]
            results += [s for name, s in zip(self.states, shown) if name != "spk"]
        return results[0] if len(results) == 1 else tuple(results)

    def over_time(self, where: str) -> None:
        """Switch to sequences ``[T, B, ...]``."""
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
        """Do :meth:`steps` by an op: return spikes ``[T, B, ...]`` and the states after all steps.

        States of a single step have no time dimension, and are no views: callers may detach them in place.
        """

    def _decay(self, name: str, x: Tensor) -> Any:
        value, least = as_number(getattr(self, name), x), self.least if name == "beta" else 0.0
        return value.clamp(least, 1.0) if isinstance(value, Tensor) else min(max(value, least), 1.0)

    def _low_passed(self, x: Tensor, state: Tensor, decay: Any) -> Tensor:
        """Return a state without a reset after every step; for a single step without a time dimension."""
        every, last = ops.li(x, state, decay=decay, decay_input=False)
        return last if self.time_dim is None else every

    def _fires_at(self, membrane: Tensor, x: Tensor) -> Tensor:
        """Return the spikes ``[T, B, ...]`` of membranes from :meth:`_low_passed`."""
        spikes = fire(self.spike_grad, membrane, as_number(self.threshold, x))
        return spikes.view(x.shape)

    def _last(self, state: Tensor) -> Tensor:
        """Return the state after the last step in the shape that :meth:`scan` returns."""
        return state if self.time_dim is None else state.unsqueeze(0)

    def _leaky(self, x: Tensor, mem: Tensor, beta: Any) -> tuple[Tensor, ...]:
        """Return spikes and membranes before their reset, for the decay ``beta`` and the input ``x``."""
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
        """Return spikes, membranes before their reset, and further results of ``run``, which calls the op.

        ``current`` maps the spikes to the input current of the membrane; None: the input current is ``x``.

        A reset to zero that ignores the input of the step after a spike is a refractory period of one step. A reset by
        subtraction subtracts the threshold after the decay of the next step, so it subtracts ``threshold / beta``
        before; measured from ``-rest``, the membrane fires at the value that is subtracted: docs/semantics.md.
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
        # The next call needs only the last membrane; all are for results and for the delayed reset.
        single_step = self.time_dim is None
        every = self._shows() or (self.mechanism == "zero" and self.reset_delay)
        every = every and not single_step
        arguments = firing | reset | {"return_v_seq": every}
        spikes, last, *others = run(x, v=v, decay=beta, decay_input=False, **arguments)
        v_seq = last if single_step else others.pop() if every else last.unsqueeze(0)
        if self.mechanism == "subtract":
            last_spikes = spikes[0] if single_step else spikes if every else spikes[-1:]
            membrane = v_seq - rest + taken * last_spikes.detach()
            vars(self)["_end"] = last, rest
        elif self.reset_delay:
            charge = x if current is None else current(spikes)
            before = v if single_step else torch.cat([v.unsqueeze(0), v_seq[:-1]])
            membrane = beta * before + (charge[0] if single_step else charge)
            if self.drops:
                others.pop()  # r
                refractory = fired if single_step else torch.cat([fired.unsqueeze(0), spikes[:-1] != 0])
                membrane = torch.where(refractory, 0.0, membrane)
                if isinstance(threshold, Tensor) and threshold.requires_grad:
                    # snnTorch's threshold has a gradient in refractory steps, too.
                    unmasked = fire(self.spike_grad, membrane, threshold).to(spikes)
                    spikes = torch.where(refractory, unmasked, spikes)
        else:
            membrane = v_seq
        return spikes, membrane, *others
