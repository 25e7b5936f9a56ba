"""The parts of :class:`snnfast.model.DiehlAndCook2015`, named and to be read as n3ml's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast.ops import DiehlCookConductanceState, DiehlCookState
from snnfast.reference.stdp import normalize

from .diehl_cook2015_settings import Settings
from .networks import Draws

State = DiehlCookState | DiehlCookConductanceState


class Now:
    """Spikes and state of the last step; None at rest. The parts of a model share one."""

    def __init__(self) -> None:
        self.pre: Tensor | None = None
        self.post: Tensor | None = None
        self.state: State | None = None
        self.device = torch.device("cpu")


class Input(nn.Module):
    """The inputs, to be read: ``s`` spikes of the last step, ``x`` traces, both ``[*networks, neurons]``."""

    def __init__(self, networks: Sequence[int], neurons: int, now: Now) -> None:
        super().__init__()
        self.neurons, self._shape, self._now = neurons, (*networks, neurons), now

    @property
    def s(self) -> Tensor:
        """Spikes of the last step, bool."""
        now = self._now
        return self._zeros(torch.bool) if now.pre is None else now.pre

    @property
    def x(self) -> Tensor:
        """Traces of the spikes."""
        state = self._now.state
        # Where inputs are delayed, older traces come before it.
        return (
            self._zeros(torch.float32)
            if state is None
            else state.trace_pre.view(*self._shape[:-1], -1, self.neurons)[..., -1, :]
        )

    def _zeros(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros(self._shape, dtype=dtype, device=self._now.device)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return str(self.neurons)


class Excitatory(nn.Module):
    """The excitatory neurons: ``theta``, and of the last step ``v``, ``s`` and ``x``, all ``[*networks, neurons]``."""

    theta: Tensor

    def __init__(
        self,
        networks: Sequence[int],
        neurons: int,
        settings: Settings,
        dtype: torch.dtype,
        now: Now,
    ) -> None:
        super().__init__()
        self.neurons, self._dynamics, self._now = neurons, settings.neurons, now
        theta_dtype = settings.neurons.theta_dtype or dtype
        self.register_buffer(
            "theta", torch.full((*networks, neurons), settings.theta_init, dtype=theta_dtype)
        )

    @property
    def v(self) -> Tensor:
        """Membranes, mV."""
        state, dynamics = self._now.state, self._dynamics
        if state is None:
            return torch.full_like(self.theta, dynamics.v_rest)
        return state.v + dynamics.v_zero

    @property
    def s(self) -> Tensor:
        """Spikes of the last step, bool."""
        post = self._now.post
        return torch.zeros_like(self.theta, dtype=torch.bool) if post is None else post

    @property
    def x(self) -> Tensor:
        """Traces of the spikes."""
        state = self._now.state
        return torch.zeros_like(self.theta) if state is None else state.trace_post

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return str(self.neurons)


class Synapses(nn.Module):
    """Weights ``w`` and ``delays`` (steps, or None) to excitatory neurons, both ``[*networks, neurons, inputs]``.

    Attributes:
        longest_delay: steps that no delay exceeds; None without delays.
    """

    delays: Tensor | None
    longest_delay: int | None

    def __init__(
        self,
        networks: Sequence[int],
        inputs: int,
        neurons: int,
        settings: Settings,
        dtype: torch.dtype,
        draws: Draws,
    ) -> None:
        super().__init__()
        # An input's weights lie together, as the kernels walk from input spike to input spike.
        w = torch.empty((*networks, inputs, neurons), dtype=dtype).mT
        self.w = nn.Parameter(w, requires_grad=False)
        self._settings, self._draws = settings, draws
        self.reset_parameters()
        delays = self.longest_delay = None
        if settings.max_delay > 0:
            self.longest_delay = round(settings.max_delay / settings.neurons.dt)
            most = self.longest_delay + 1
            delays = draws(lambda _: torch.randint(most, w.shape[-2:], dtype=torch.uint8))
        self.register_buffer("delays", delays)

    def reset_parameters(self) -> None:
        """Draws the weights anew, and scales each neuron's to the sum ``norm``."""
        settings, w = self._settings, self.w.detach()
        # Drawn in the order of [neurons, inputs], whatever the layout.
        w.copy_(self._draws(lambda _: torch.rand(w.shape[-2:], dtype=w.dtype)) * settings.w_init)
        every = torch.ones(w.shape[:-1], dtype=torch.bool, device=w.device)
        normalize(w, every, settings.norm * w.shape[-1], settings.rule)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        neurons, inputs = self.w.shape[-2:]
        return f"{inputs}, {neurons}"
