"""snnTorch's surrogate gradients as arguments of ops, and its steps in plain PyTorch where no op has them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import check
from snnfast.reference import surrogate
from snnfast.reference.surrogate import Surrogate

from .port import Looping, Port, as_number, fire

__all__ = ["Steps", "surrogate_of"]


class Steps(Looping, Port):
    """Steps in the order in which snnTorch charges, resets, rounds and fires.

    ::

        r = mem > threshold,  mem = charge(x, mem) - r threshold,  or  (1 - r) charge(x, mem),  s = mem > threshold

    where ``r`` has no gradient. With ``reset_delay=False`` the membrane is then also reset by ``s - r``.
    """

    mechanism: str
    reset_delay: bool
    inhibition: bool
    state_quant: Any
    spike_grad: Any
    threshold: Tensor
    graded_spikes_factor: Tensor
    init_hidden: bool
    output: bool
    drops: ClassVar[bool]
    states_optional = True
    # With a reset by subtraction, at the end of a call: (membrane of the kernel, its resting value); and
    # (membrane that the call returned, its version, membrane of the kernel, its resting value).
    _end: tuple[Tensor, Any] | None = None
    _returned: tuple[Tensor, int, Tensor, float] | None = None

    @property
    def names_of_states(self) -> tuple[str, ...]:
        """Names of the states in snnTorch."""
        return self.states

    @property
    def state_results(self) -> tuple[int, ...]:
        """Index of each state in the results: spikes first, then the other states."""
        others = [name for name in self.states if name != "spk"]
        return tuple(0 if name == "spk" else 1 + others.index(name) for name in self.states)

    @property
    def every_step(self) -> tuple[int, ...]:
        """Indices of spikes, and of membranes, which come last."""
        return 0, max(self.state_results)

    @property
    def returns_output_only(self) -> bool:  # type: ignore[override]
        """True if it returns only spikes, because it keeps its states and does not return them."""
        return self.init_hidden and not self.output

    def _keep(self, mem: Tensor) -> None:
        """Store the final membrane of the kernel, for a later call that receives ``mem`` back."""
        end = self._end
        plain = end is not None and isinstance(end[1], float) and not mem.is_inference()
        returned = (mem, mem._version, *end) if plain else None  # type: ignore[misc]
        vars(self).update(_end=None, _returned=returned)

    def _known(self, mem: Tensor, rest: Any) -> Tensor | None:
        """Return the kernel's membrane if ``mem`` is the unchanged tensor of the last call with the same ``rest``."""
        if self._returned is None or isinstance(rest, Tensor):
            return None
        returned, version, v, where = self._returned
        same = returned is mem and version == mem._version and where == rest
        # mem may have been detached in place.
        return v if same and mem.requires_grad == v.requires_grad else None

    def reset(self) -> None:
        """Discard the states: the next call starts at rest, with any batch size."""
        super().reset()
        self._end = self._returned = None

    def __getstate__(self) -> dict[str, Any]:
        # deepcopy refuses tensors with a graph.
        return {**super().__getstate__(), "_end": None, "_returned": None}

    def _shows(self) -> bool:
        """Return whether a call returns or stores the membranes of all steps."""
        return self.output or not self.init_hidden or self.store_v_seq

    def _graded(self) -> bool:
        factor = self.graded_spikes_factor
        plain = not (factor.requires_grad or factor.numel() > 1 or torch.compiler.is_compiling())
        return not plain or as_number(factor, factor) != 1

    @abstractmethod
    def charge(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return the states, except spikes, after a step of ``x`` without a reset."""

    def steps(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return spikes ``[T, B, ...]`` and every state after each step; without a time dimension for a single step."""
        if self.time_dim is None:
            spikes, *after = self._step(x[0].to(check.state_dtype(x.dtype)), *states)
            spikes = spikes.to(x.dtype)
            # A state must not be a view.
            returned = (spikes.clone(), *after) if "spk" in self.states else tuple(after)
            return spikes.unsqueeze(0), *returned
        rows = []
        for x_t in x.to(check.state_dtype(x.dtype)):
            spikes, *after = self._step(x_t, *states)
            states = (spikes, *after) if "spk" in self.states else tuple(after)
            rows.append((spikes.to(x.dtype), *states))
        return tuple(torch.stack(part) for part in zip(*rows))

    def _step(self, x: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        *others, mem = before
        reset = fire(self.spike_grad, mem, self.threshold).detach()
        if self.mechanism == "zero" and not self.drops:
            mem = (1 - reset) * mem
        after = self.reset_by(reset, before, self.charge(x, *others, mem))
        if self.state_quant:
            after = tuple(self.state_quant(state).to(state) for state in after)
        *currents, mem = after
        spikes = self._fire(mem)
        if not self.reset_delay:
            # With inhibition, snnTorch divides by a factor that these spikes do not have.
            fired = spikes / self.graded_spikes_factor if self.inhibition else spikes
            again = fired - reset
            if self.mechanism == "subtract":
                mem = mem - again * self.threshold
            elif self.mechanism == "zero":
                mem = mem - again * mem
        return spikes, *currents, mem

    def reset_by(self, reset: Tensor, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Reset the states after a step where the membrane was above the threshold before it."""
        *currents, mem = after
        if self.mechanism == "subtract":
            mem = mem - reset * self.threshold
        elif self.mechanism == "zero" and self.drops:
            mem = mem - reset * mem
        return *currents, mem

    def _fire(self, mem: Tensor) -> Tensor:
        if not self.inhibition:
            mem = self.state_quant(mem).to(mem) if self.state_quant else mem
            return fire(self.spike_grad, mem, self.threshold)
        above = (mem - self.threshold).argmax(1)
        largest = functional.one_hot(above, mem.shape[1]).to(mem)
        return fire(self.spike_grad, mem, self.threshold) * largest


# snnTorch's surrogate factories -> the same functions of this package.
_SURROGATES: dict[str, Callable[[float], Surrogate]] = {
    "atan": surrogate.atan,
    "fast_sigmoid": surrogate.fast_sigmoid,
    "sigmoid": surrogate.sigmoid,
}


def surrogate_of(original: Any) -> Surrogate | Callable[[Tensor], Tensor]:
    """Return the surrogate that the kernels know by name; any other function unchanged, for the reference to run."""
    function: Callable[[Tensor], Tensor] = original.spike_grad
    made_by = getattr(function, "__qualname__", "").partition(".")[0]
    cells: Any = getattr(function, "__closure__", None) or ()
    library = getattr(function, "__module__", "") == "snntorch.surrogate"
    if library and made_by in _SURROGATES and len(cells) == 1:
        return _SURROGATES[made_by](float(cells[0].cell_contents))
    return function
