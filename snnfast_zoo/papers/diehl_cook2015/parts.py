"""Submodules of :class:`snnfast.papers.DiehlAndCook2015`, with n3ml's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast.ops import DiehlCookState
from snnfast.reference.plasticity import Rule
from snnfast.reference.stdp import normalize

from ..networks import Draws
from .settings import NetworkSettings


def normalize_each(w: Tensor, rows: Tensor, norms: Sequence[float], rules: Sequence[Rule]) -> None:
    """Call :func:`normalize` with one sum and rule for all networks, or one per network."""
    if len(norms) == len(rules) == 1:
        normalize(w, rows, norms[0], rules[0])
        return
    for k, part in enumerate(w):
        normalize(part, rows[k], norms[k % len(norms)], rules[k % len(rules)])


def _filled(like: Tensor, values: Sequence[float]) -> Tensor:
    """Return a tensor ``[*networks, neurons]`` filled with one number, or one per network."""
    if len(values) == 1:
        return torch.full_like(like, values[0])
    by_network = torch.tensor(values, dtype=like.dtype).to(like.device)
    return by_network[:, None].expand(like.shape).clone()


class LastStep:
    """Spikes and state of the last step; None at rest. Shared by the submodules of a model."""

    def __init__(self) -> None:
        self.pre: Tensor | None = None
        self.post: Tensor | None = None
        self.state: DiehlCookState | None = None
        self.device = torch.device("cpu")


class Input(nn.Module):
    """The inputs: read-only ``s``, spikes of the last step, and ``x``, traces, both ``[*networks, neurons]``."""

    def __init__(self, networks: Sequence[int], neurons: int, last_step: LastStep) -> None:
        super().__init__()
        self.neurons, self._shape, self._last_step = neurons, (*networks, neurons), last_step

    @property
    def s(self) -> Tensor:
        """Spikes of the last step, bool."""
        last_step = self._last_step
        return self._zeros(torch.bool) if last_step.pre is None else last_step.pre

    @property
    def x(self) -> Tensor:
        """Traces of the spikes."""
        state = self._last_step.state
        # With delays, older traces precede it.
        return (
            self._zeros(torch.float32)
            if state is None
            else state.trace_pre.view(*self._shape[:-1], -1, self.neurons)[..., -1, :]
        )

    def _zeros(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros(self._shape, dtype=dtype, device=self._last_step.device)

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return str(self.neurons)


class Excitatory(nn.Module):
    """The excitatory neurons: ``theta``, and of the last step ``v``, ``s`` and ``x``, all ``[*networks, neurons]``."""

    theta: Tensor

    def __init__(
        self,
        networks: Sequence[int],
        neurons: int,
        every: Sequence[NetworkSettings],
        dtype: torch.dtype,
        last_step: LastStep,
    ) -> None:
        super().__init__()
        self.neurons, self._every, self._last_step = neurons, every, last_step
        theta = torch.empty((*networks, neurons), dtype=every[0].neurons.theta_dtype or dtype)
        self.register_buffer("theta", _filled(theta, [settings.theta_init for settings in every]))

    def _apply(self, *arguments: Any, **keywords: Any) -> Any:
        before = self.theta
        result = super()._apply(*arguments, **keywords)  # type: ignore[no-untyped-call]
        # Move theta to the new device, but keep its dtype: a change of dtype is for the weights.
        if self._every[0].neurons.theta_dtype not in (None, self.theta.dtype):
            self.theta = before.to(self.theta.device)
        return result

    @property
    def v(self) -> Tensor:
        """Membrane potentials, mV."""
        state, dynamics = self._last_step.state, [settings.neurons for settings in self._every]
        if state is None:
            return _filled(self.theta, [neurons.v_rest for neurons in dynamics])
        return state.v + dynamics[0].v_zero

    @property
    def s(self) -> Tensor:
        """Spikes of the last step, bool."""
        post = self._last_step.post
        return torch.zeros_like(self.theta, dtype=torch.bool) if post is None else post

    @property
    def x(self) -> Tensor:
        """Traces of the spikes."""
        state = self._last_step.state
        return torch.zeros_like(self.theta) if state is None else state.trace_post

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return str(self.neurons)


class ExcitatorySynapses(nn.Module):
    """Weights ``w`` and ``delays`` (steps, or None) to excitatory neurons, both ``[*networks, neurons, inputs]``.

    Attributes:
        longest_delay: upper bound of the delays, in steps; None without delays.
    """

    delays: Tensor | None
    longest_delay: int | None

    def __init__(
        self,
        networks: Sequence[int],
        inputs: int,
        neurons: int,
        every: Sequence[NetworkSettings],
        dtype: torch.dtype,
        draws: Draws,
    ) -> None:
        super().__init__()
        # The weights of an input are contiguous, because the kernels iterate over input spikes.
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
        """Draw the weights anew, and scale those of each neuron to the sum ``norm``."""
        every, w = self._every, self.w.detach()

        def drawn(k: int) -> Tensor:
            """Draw in the order of [neurons, inputs], whatever the layout."""
            return torch.rand(w.shape[-2:], dtype=w.dtype) * every[k % len(every)].w_init

        w.copy_(self._draws(drawn))
        rows = torch.ones(w.shape[:-1], dtype=torch.bool, device=w.device)
        norms = [settings.norm * w.shape[-1] for settings in every]
        normalize_each(w, rows, norms, [settings.rule for settings in every])

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        neurons, inputs = self.w.shape[-2:]
        return f"{inputs}, {neurons}"
