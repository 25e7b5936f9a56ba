"""The parts of :class:`snnfast.papers.DiehlAndCook2015`, named and to be read as n3ml's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.ops import DiehlCookConductanceState, DiehlCookState
from snnfast.reference.plasticity import Rule
from snnfast.reference.stdp import normalize

from ..networks import Draws
from .settings import Settings

State = DiehlCookState | DiehlCookConductanceState


def normalize_each(w: Tensor, rows: Tensor, norms: Sequence[float], rules: Sequence[Rule]) -> None:
    """:func:`normalize` with one sum and rule for all networks, or one for each."""
    if len(norms) == len(rules) == 1:
        normalize(w, rows, norms[0], rules[0])
        return
    for k, part in enumerate(w):
        normalize(part, rows[k], norms[k % len(norms)], rules[k % len(rules)])


def _filled(like: Tensor, values: Sequence[float]) -> Tensor:
    """A tensor ``[*networks, neurons]`` of one number for all, or one a network."""
    if len(values) == 1:
        return torch.full_like(like, values[0])
    each = torch.tensor(values, dtype=like.dtype).to(like.device)
    return each[:, None].expand(like.shape).clone()


class LastStep:
    """Spikes and state of the last step; None at rest. The parts of a model share one."""

    def __init__(self) -> None:
        self.pre: Tensor | None = None
        self.post: Tensor | None = None
        self.state: State | None = None
        self.device = torch.device("cpu")


class Input(nn.Module):
    """The inputs, to be read: ``s`` spikes of the last step, ``x`` traces, both ``[*networks, neurons]``."""

    def __init__(self, networks: Sequence[int], neurons: int, now: LastStep) -> None:
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
        """Return the settings that ``print`` shows."""
        return str(self.neurons)


class Excitatory(nn.Module):
    """The excitatory neurons: ``theta``, and of the last step ``v``, ``s`` and ``x``, all ``[*networks, neurons]``."""

    theta: Tensor

    def __init__(
        self, networks: Sequence[int], neurons: int, every: Sequence[Settings], dtype: torch.dtype, now: LastStep
    ) -> None:
        super().__init__()
        self.neurons, self._every, self._now = neurons, every, now
        theta = torch.empty((*networks, neurons), dtype=every[0].neurons.theta_dtype or dtype)
        self.register_buffer("theta", _filled(theta, [one.theta_init for one in every]))

    def _apply(self, *arguments: Any, **keywords: Any) -> Any:
        before = self.theta
        result = super()._apply(*arguments, **keywords)  # type: ignore[no-untyped-call]
        # It moves, but is never rounded: another dtype is meant for the weights.
        if self._every[0].neurons.theta_dtype not in (None, self.theta.dtype):
            self.theta = before.to(self.theta.device)
        return result

    @property
    def v(self) -> Tensor:
        """Membranes, mV."""
        state, dynamics = self._now.state, [one.neurons for one in self._every]
        if state is None:
            return _filled(self.theta, [one.v_rest for one in dynamics])
        return state.v + dynamics[0].v_zero

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
        """Return the settings that ``print`` shows."""
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
        every: Sequence[Settings],
        dtype: torch.dtype,
        draws: Draws,
    ) -> None:
        super().__init__()
        # An input's weights lie together, as the kernels walk from input spike to input spike.
        w = torch.empty((*networks, inputs, neurons), dtype=dtype).mT
        self.w = nn.Parameter(w, requires_grad=False)
        self._every, self._draws = every, draws
        self.reset_parameters()
        settings = every[0]
        delays = self.longest_delay = None
        if settings.max_delay > 0:
            self.longest_delay = round(settings.max_delay / settings.neurons.dt)
            most = self.longest_delay + 1
            delays = draws(lambda _: torch.randint(most, w.shape[-2:], dtype=torch.uint8))
        self.register_buffer("delays", delays)

    def reset_parameters(self) -> None:
        """Draws the weights anew, and scales each neuron's to the sum ``norm``."""
        every, w = self._every, self.w.detach()

        def drawn(k: int) -> Tensor:
            """In the order of [neurons, inputs], whatever the layout."""
            return torch.rand(w.shape[-2:], dtype=w.dtype) * every[k % len(every)].w_init

        w.copy_(self._draws(drawn))
        rows = torch.ones(w.shape[:-1], dtype=torch.bool, device=w.device)
        norms = [one.norm * w.shape[-1] for one in every]
        normalize_each(w, rows, norms, [one.rule for one in every])

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        neurons, inputs = self.w.shape[-2:]
        return f"{inputs}, {neurons}"
