"""Spike-timing-dependent plasticity of a linear layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.calls.stdp import Reduction, Update
from snnfast.ops import StdpState
from snnfast.plasticity import Rule


class STDP:
    """Lets the weights of a linear layer learn from the spikes on both of its sides.

    The rule and how a batch counts are those of :func:`snnfast.ops.stdp_`: all samples see the same weights, and their
    changes are summed or averaged. Traces go on from call to call until :meth:`reset`; the bias does not learn, and
    there is no gradient.

    Example:
        >>> linear, neurons = nn.Linear(784, 100, bias=False), snnfast.nn.LIF()
        >>> nn.init.uniform_(linear.weight, 0, 0.3)
        >>> learner = STDP(linear, snnfast.plasticity.pair(), reduction="mean")
        >>> post = neurons(linear(pre))                              # pre [T, B, 784]
        >>> learner.run(pre, post)                                   # or, once and for all:
        >>> handle = learner.listen(neurons)                         # every forward pass in training mode learns

    A reward that depends on what the neurons did comes after their spikes: with a reward-modulated rule, passes build
    up eligibility, and :meth:`reward` turns it into weight.

    Args:
        linear: the layer; its weights must lie within the bounds of ``rule``.
        rule: from :mod:`snnfast.plasticity`.
        dt: length of a step, ms.
        reduction: ``"sum"`` or ``"mean"`` over the batch.
        update: ``"step"`` or ``"sequence"``: after each step, or after each call.
        norm: sum of magnitudes to which the weights of every neuron are scaled after each call, also of :meth:`reward`;
            None: they are not.

    Attributes:
        state: :class:`snnfast.ops.StdpState` after the last step, or None after :meth:`reset`.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, now or by the first call.
    """

    state: StdpState | None

    def __init__(
        self,
        linear: nn.Linear,
        rule: Rule,
        *,
        dt: float = 1.0,
        reduction: Reduction = "sum",
        update: Update = "step",
        norm: float | None = None,
    ) -> None:
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"STDP: linear must be an nn.Linear, got {check.kind(linear)}")
        if not isinstance(rule, Rule):
            raise TypeError(
                f"STDP: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}"
            )
        check.in_range("STDP", "linear.weight", linear.weight.detach(), rule.w_min, rule.w_max)
        self.linear = linear
        self.rule = rule
        self.dt = dt
        self.reduction: Reduction = reduction
        self.update: Update = update
        self.norm = norm
        self.state = None

    def reset(self) -> None:
        """Forgets all spikes: traces and eligibility."""
        self.state = None

    def run(self, pre: Tensor, post: Tensor, reward: float | Tensor | None = None) -> None:
        """Learns from spikes ``pre`` ``[T, B, in_features]`` and ``post`` ``[T, B, out_features]``.

        ``reward`` is a number, ``[T]`` or ``[T, B]``, for a reward-modulated rule only, where None means 0.
        """
        if reward is None and self.rule.tau_eligibility is not None:
            reward = 0.0
        if isinstance(reward, Tensor):
            check.finite("STDP", "reward", reward)
        self.state = ops.stdp_(
            self.linear.weight,
            pre,
            post,
            rule=self.rule,
            dt=self.dt,
            state=self.state,
            reward=reward,
            reduction=self.reduction,
            update=self.update,
            norm=self.norm,
            validate=False,
        )

    def step(self, pre: Tensor, post: Tensor, reward: float | Tensor | None = None) -> None:
        """One step of :meth:`run`: ``pre`` ``[B, in_features]``, ``post`` ``[B, out_features]``, ``reward`` ``[B]``."""
        for name, value in (("pre", pre), ("post", post)):
            if value.dim() != 2:
                raise ValueError(
                    f"STDP: {name} of one step must have shape [B, N], got {list(value.shape)}"
                )
        if isinstance(reward, Tensor) and reward.dim() == 1:
            reward = reward[None]
        self.run(pre[None], post[None], reward)

    def reward(self, reward: float | Tensor) -> None:
        """Turns eligibility into weight, as if ``reward`` had come with the last step; a number or ``[B]``.

        With ``norm`` the weights have been scaled before, by the last call, and are scaled again.
        """
        if self.state is None or self.state.eligibility is None:
            raise ValueError(
                "STDP: reward needs eligibility: a reward-modulated rule, and spikes since the last reset"
            )
        eligibility, w = self.state.eligibility, self.linear.weight.detach()
        if not isinstance(reward, Tensor):
            reward = w.new_full((), check.number("STDP", "reward", reward))
        batch = len(eligibility)
        check.dtype("STDP", "reward", reward.dtype, check.FLOATING)
        if reward.shape not in ((), (batch,)):
            raise ValueError(
                f"STDP: reward must be a number or have shape [{batch}], got {list(reward.shape)}"
            )
        check.on_device("STDP", "reward", reward, "linear.weight", w.device)
        check.finite("STDP", "reward", reward)
        change = torch.einsum("b,bji->ji", reward.to(w).expand(batch), eligibility)
        scale = 1 / max(batch, 1) if self.reduction == "mean" else 1.0
        w.add_(change, alpha=scale).clamp_(self.rule.w_min, self.rule.w_max)
        if self.norm is not None:  # which a call of no steps scales to, too
            n_post, n_pre = w.shape
            self.run(w.new_zeros((0, batch, n_pre)), w.new_zeros((0, batch, n_post)))

    def listen(self, neurons: nn.Module) -> Listening:
        """Learns in every forward pass of ``neurons`` in training mode, from the last input of ``linear``.

        ``neurons`` gives spikes ``[T, B, out_features]``, alone or first in a tuple, and ``linear`` must have been
        given spikes ``[T, B, in_features]`` before, alone or in :class:`snnfast.nn.Time`. ``remove()`` of the returned
        handle ends it. A deep copy of a network that holds both learns for itself, as this one does; so does one that
        is pickled and loaded.
        """
        return Listening(self, neurons)

    def __repr__(self) -> str:
        return f"STDP({self.linear}, {self.rule})"


class Listening:
    """The hooks of :meth:`STDP.listen`: its methods, since a function inside a function cannot be copied or pickled."""

    def __init__(self, learner: STDP, neurons: nn.Module) -> None:
        self._learner = learner
        self._heard: Tensor | None = None
        self.handles = (
            learner.linear.register_forward_pre_hook(self._hear),
            neurons.register_forward_hook(self._learn),
        )

    def remove(self) -> None:
        """Ends learning by forward passes."""
        for handle in self.handles:
            handle.remove()

    def _hear(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._heard = inputs[0].detach()

    def _learn(self, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if module.training and self._heard is not None:
            pre, post = self._heard, output[0] if isinstance(output, tuple) else output
            self._heard = None
            if pre.dim() == 2 and len(pre) == math.prod(post.shape[:2]):
                pre = pre.unflatten(0, post.shape[:2])  # Time folds it
            self._learner.run(pre, post)
