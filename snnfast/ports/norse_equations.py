"""Norse's neurons from step functions (snnfast/nn/equations.py): one class per cell or layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from snnfast.nn import equations
from snnfast.nn.own_neuron import OwnNeuron

# Norse's states, by its names.
from .norse_neurons import (
    AdaptiveCurrentState,
    CurrentState,
    RecoveryState,
    RecurrentAdaptiveCurrentState,
    RecurrentRecoveryState,
    RecurrentState,
    RefractoryAdaptiveState,
    RefractoryState,
    _at_rest,
    _Neuron,
    _Recurrent,
)
from .port import as_number, fires_above

__all__: list[str] = []


class _Equation(_Neuron):
    """A neuron from a step function, whose first states are the membrane ``v`` and the current ``i``."""

    neuron: ClassVar[OwnNeuron]
    state_type: ClassVar[type[Any]]  # a named tuple
    holds: ClassVar[type[Any] | None] = None  # named tuple of ``state_type`` and ``rho``
    # names of the step's parameters -> names in Norse; Norse's rates are per second
    settings: ClassVar[dict[str, str]] = {"v_rest": "v_leak", "v_reset": "v_reset"}
    rates: ClassVar[dict[str, str]] = {}

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        states = self._flat(state, x)
        equation = self._equation(x)
        if not self.record_states:
            spikes, states, v_seq = self._run(x, states, equation)
            self._show([v_seq])
            return spikes, self._state_of(states)
        # The op returns only the membranes of all steps, so each step is a call.
        rows = []
        for step in x:
            spikes, states, _ = self._run(step.unsqueeze(0), states, equation)
            rows.append((spikes[0], *states))
        spikes, *every = (torch.stack(column) for column in zip(*rows))
        self._show([every[self.state_type._fields.index("v")]])
        return spikes, self._state_of(every)

    def _flat(self, state: Any, x: Tensor) -> list[Tensor]:
        """Return the states before the first step, in their order."""
        names = self.state_type._fields
        if state is None:
            values = [self._begin(name) for name in names] + [0.0] * (self.holds is not None)
        else:
            values = [*state] if self.holds is None else [*state[0], state.rho]
        return [self._state(value, x) for value in values]

    def _begin(self, name: str) -> Any:
        """Return the resting value of a state."""
        return _at_rest(self.inner.v_leak) if name == "v" else 0.0

    def _state_of(self, states: list[Tensor]) -> Any:
        if self.holds is None:
            return self.state_type(*states)
        *inner, rho = states
        return self.holds(self.state_type(*inner), rho)

    def _equation(self, x: Tensor) -> dict[str, Any]:
        """Return the arguments of the op."""
        settings = {name: as_number(getattr(self.inner, key), x) for name, key in self.settings.items()}
        rates = {name: as_number(getattr(self.inner, key), x) * self.dt for name, key in self.rates.items()}
        if self.holds is not None:
            settings["rho_reset"] = as_number(self.p.rho_reset, x)
        firing = fires_above(self.spike_function, as_number(self.inner.v_th, x))
        return settings | rates | firing

    def _run(self, x: Tensor, states: list[Tensor], arguments: dict[str, Any]) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return spikes, the last states, and the membranes."""
        spikes, *after, v_seq = self.neuron(x, *states, **arguments, return_v_seq=True)
        return spikes, after, v_seq


class _RecurrentEquation(_Recurrent, _Equation):
    """A neuron from a step function with Norse's weights; its spikes are its first state."""

    detach_reset: ClassVar[bool] = False

    def scan(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().scan(functional.linear(x, self.input_weights), state)

    def _run(self, x: Tensor, states: list[Tensor], arguments: dict[str, Any]) -> tuple[Tensor, list[Tensor], Tensor]:
        z, *others = states
        weight = self._weight(x)
        wide = x.to(weight.dtype)
        named = dict(zip(self.neuron.states, others)) | arguments
        spikes, *after, v_seq = self.neuron.recurrent(
            wide, weight, z.unsqueeze(0), **named, detach_reset=self.detach_reset, return_v_seq=True
        )
        return spikes.to(x.dtype), [spikes[-1], *after], v_seq


class LIFEx(_Equation):
    """Norse's ``LIFEx`` and ``LIFExCell``."""

    neuron = equations.lif_ex
    state_type: ClassVar[type[Any]] = CurrentState
    settings: ClassVar[dict[str, str]] = {**_Equation.settings, "delta_t": "delta_T"}
    rates: ClassVar[dict[str, str]] = {"rate": "tau_mem_inv", "rate_syn": "tau_syn_inv"}


class LIFExRecurrent(_RecurrentEquation, LIFEx):
    """Norse's ``LIFExRecurrent`` and ``LIFExRecurrentCell``."""

    state_type: ClassVar[type[Any]] = RecurrentState


class LIFAdEx(_Equation):
    """Norse's ``LIFAdEx`` and ``LIFAdExCell``."""

    neuron = equations.lif_adex
    state_type: ClassVar[type[Any]] = AdaptiveCurrentState
    settings: ClassVar[dict[str, str]] = {
        **LIFEx.settings,
        **{"coupling": "adaptation_current", "jump": "adaptation_spike"},
    }
    rates: ClassVar[dict[str, str]] = {**LIFEx.rates, "rate_ada": "tau_ada_inv"}


class LIFAdExRecurrent(_RecurrentEquation, LIFAdEx):
    """Norse's ``LIFAdExRecurrent`` and ``LIFAdExRecurrentCell``."""

    state_type: ClassVar[type[Any]] = RecurrentAdaptiveCurrentState


class LIFRefrac(_Equation):
    """Norse's ``LIFRefracCell``."""

    neuron, holds = equations.lif_refrac, RefractoryState
    state_type: ClassVar[type[Any]] = CurrentState
    rates: ClassVar[dict[str, str]] = LIFEx.rates


class LIFRefracRecurrent(_RecurrentEquation, LIFRefrac):
    """Norse's ``LIFRefracRecurrent`` and ``LIFRefracRecurrentCell``."""

    state_type: ClassVar[type[Any]] = RecurrentState
    detach_reset = True


class LIFAdExRefrac(LIFAdEx):
    """Norse's ``LIFAdExRefracCell``."""

    neuron, holds = equations.lif_adex_refrac, RefractoryAdaptiveState


class LIFAdExRefracRecurrent(_RecurrentEquation, LIFAdExRefrac):
    """Norse's ``LIFAdExRefracRecurrent`` and ``LIFAdExRefracRecurrentCell``."""

    state_type: ClassVar[type[Any]] = RecurrentAdaptiveCurrentState


class Izhikevich(_Equation):
    """Norse's ``Izhikevich`` and ``IzhikevichCell``, which begin with the state of their ``spiking_method``."""

    names = (*_Equation.names, "spiking_method")
    neuron = equations.izhikevich2003
    state_type: ClassVar[type[Any]] = RecoveryState
    settings: ClassVar[dict[str, str]] = {
        "v_reset": "c",
        **{name: name for name in ("a", "b", "d", "sq", "mn", "bias")},
    }
    rates: ClassVar[dict[str, str]] = {"rate": "tau_inv"}
    spiking_method: Any

    def _begin(self, name: str) -> Any:
        return 0.0 if name == "z" else _at_rest(getattr(self.spiking_method.s, name))


class IzhikevichRecurrent(_RecurrentEquation, Izhikevich):
    """Norse's ``IzhikevichRecurrent`` and ``IzhikevichRecurrentCell``."""

    names = (*_RecurrentEquation.names, "spiking_method")
    state_type: ClassVar[type[Any]] = RecurrentRecoveryState
