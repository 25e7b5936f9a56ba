"""Spike-timing-dependent plasticity of a linear layer, a convolution or recurrent connections."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snnfast import check, ops
from snnfast.nn import Recurrent, SparseLinear, SparseRecurrent
from snnfast.ops import StdpState
from snnfast.reference.plasticity import Online, OwnRule, Rule, is_presynaptic
from snnfast.reference.stdp import Reduction, Update


class STDP:
    """STDP of the weights of a linear layer, a convolution or recurrent connections, from spikes before and after it.

    Rules and batches work as in :func:`snnfast.ops.stdp_`: all samples see the same weights, and their changes are
    summed or averaged. Traces continue from call to call until :meth:`reset`; the bias does not learn, and there is no
    gradient.

    Example:
        >>> linear, neurons = nn.Linear(784, 100, bias=False), snnfast.nn.LIF()
        >>> nn.init.uniform_(linear.weight, 0, 0.3)
        >>> learner = STDP(linear, snnfast.plasticity.pair(), reduction="mean")
        >>> post = neurons(linear(pre))                              # pre [T, B, 784]
        >>> learner.run(pre, post)                                   # or, once and for all:
        >>> handle = learner.listen(neurons)                         # every forward pass in training mode learns

    In an ``nn.Conv2d`` every position of the kernel is a sample: the spikes below the kernel are presynaptic, those of
    the output there postsynaptic, and all positions change the same weights. ``norm`` then applies to the weights of
    an output channel.

    In a :class:`snnfast.nn.Recurrent` the recurrent weights learn. The presynaptic spikes of a step are those that
    arrive in it, the spikes of the step before; ``learner.listen(recurrent)`` shifts them so. Without self-connections
    the diagonal stays 0.

    In a :class:`snnfast.nn.SparseLinear` or :class:`snnfast.nn.SparseRecurrent` the weights of the synapses learn,
    one each, by :func:`snnfast.ops.sparse_stdp_`: with one delay for all synapses. In a recurrent layer that
    :meth:`listen` follows they change within the call, at every step, by :class:`snnfast.plasticity.Online`: on the
    CPU, for at most 16 samples, and not by an own rule. With ``update="sequence"`` they change after the call, by the
    spikes that arrived during it.

    Write custom rules as :class:`snnfast.plasticity.OwnRule`. Signals that such a rule reads, for example membrane
    potentials, are passed to :meth:`run` by keyword: ``learner.run(pre, post, v_post=v)``.

    A reward that depends on the neurons' spikes comes after them: with a reward-modulated rule, passes build up
    eligibility, and :meth:`reward` converts it into weight changes.

    Args:
        linear: an ``nn.Linear``, an ``nn.Conv2d`` without groups whose padding is zeros, a
            :class:`snnfast.nn.Recurrent`, or a layer with sparse connections and a weight for each synapse; its weights
            must lie within the bounds of ``rule``. PyTorch's initial weights do not: some are negative.
        rule: from :mod:`snnfast.plasticity`.
        dt: length of a step, ms.
        reduction: ``"sum"`` or ``"mean"`` over the batch.
        update: ``"step"`` or ``"sequence"``: after each step, or after each call.
        norm: sum of magnitudes to which the weights of every neuron are scaled after each call, also of :meth:`reward`;
            None: no scaling.
        sources: of sparse connections, the presynaptic neurons whose synapses learn, such as the excitatory ones; None:
            all.

    Attributes:
        state: :class:`snnfast.ops.StdpState` after the last step, or None after :meth:`reset`.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, here or in the first call.
    """

    state: StdpState | None

    def __init__(
        self,
        linear: nn.Linear | nn.Conv2d | Recurrent | SparseLinear | SparseRecurrent,
        rule: Rule | OwnRule,
        *,
        dt: float = 1.0,
        reduction: Reduction = "sum",
        update: Update = "step",
        norm: float | None = None,
        sources: range | None = None,
    ) -> None:
        if not isinstance(linear, (nn.Linear, nn.Conv2d, Recurrent, *_SPARSE)):
            raise TypeError(
                "STDP: linear must be an nn.Linear, nn.Conv2d or a Recurrent, SparseLinear or SparseRecurrent of "
                f"snnfast.nn, got {check.kind(linear)}"
            )
        if isinstance(linear, _SPARSE):
            shape = list(linear.weight.shape) if isinstance(linear.weight, Tensor) else linear.weight
            if shape != [len(linear.connectivity)]:
                wanted = f"[{len(linear.connectivity)}], one for each synapse"
                raise ValueError(f"STDP: linear.weight must have shape {wanted}, got {shape}")
        elif sources is not None:
            raise ValueError(f"STDP: sources must be None for a {check.kind(linear)}, got {sources}")
        if isinstance(linear, nn.Conv2d) and (
            linear.groups != 1 or linear.padding_mode != "zeros" or isinstance(linear.padding, str)
        ):
            raise ValueError(
                "STDP: a convolution must have groups=1 and numbers of zeros as padding, got "
                f"groups={linear.groups}, padding={linear.padding}, {linear.padding_mode}"
            )
        if not isinstance(rule, (Rule, OwnRule)):
            raise TypeError(f"STDP: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}")
        try:
            learning = linear.weight.detach()
            learning = learning[linear.connectivity.out_of(sources)] if isinstance(linear, _SPARSE) else learning
            check.in_range("STDP", "linear.weight", learning, rule.w_min, rule.w_max)
        except ValueError as error:
            raise ValueError(
                f"{error}; draw them there, nn.init.uniform_(linear.weight, {rule.w_min:g}, {rule.w_max:g}), or give "
                "the rule other bounds, w_min=-1"
            ) from None
        self.linear = linear
        self.rule = rule
        self.dt = dt
        self.reduction: Reduction = reduction
        self.update: Update = update
        self.norm = norm
        self.sources = sources
        self.state = None

    def reset(self) -> None:
        """Forget all spikes: traces and eligibility."""
        self.state = None

    def run(self, pre: Tensor, post: Tensor, reward: float | Tensor | None = None, **signals: Tensor) -> None:
        """Learn from spikes ``pre`` ``[T, B, in_features]`` and ``post`` ``[T, B, out_features]``.

        ``reward`` is a number, ``[T]`` or ``[T, B]``, for a reward-modulated rule only, where None means 0. ``signals``
        are those that an ``OwnRule`` reads: names that end in ``_pre`` have the shape of ``pre``, names that end in
        ``_post`` that of ``post``.
        """
        if isinstance(self.linear, nn.Conv2d):
            pre, post, reward, signals = self._places(self.linear, pre, post, reward, signals)
        for name, value in {"reward": reward, **signals}.items():
            if isinstance(value, Tensor):
                check.finite("STDP", name, value)
        if self._has_diagonal:
            self._learn(pre, post, self.norm, reward, **signals)
        else:
            self._learn(pre, post, None, reward, **signals)
            self._finish(pre.shape[1])

    @property
    def _has_diagonal(self) -> bool:
        return not isinstance(self.linear, Recurrent) or self.linear.self_connections

    def _finish(self, batch: int) -> None:
        """Clear the diagonal without self-connections, then scale the weights."""
        weight, linear = self.linear.weight.detach(), self.linear
        if not self._has_diagonal:
            weight.fill_diagonal_(0.0)
        if self.norm is None:
            return
        # A call without steps only scales.
        if isinstance(linear, _SPARSE):
            c, rule = linear.connectivity, replace(self.rule, tau_eligibility=None)
            pre, post = (weight.new_zeros(0, batch, neurons) for neurons in (c.n_pre, c.n_post))
            ops.sparse_stdp_(weight, pre, post, c, rule=rule, norm=self.norm, sources=self.sources, validate=False)
        else:
            n_post, n_pre = weight.flatten(1).shape
            self._learn(weight.new_zeros((0, batch, n_pre)), weight.new_zeros((0, batch, n_post)), self.norm)

    def _learn(
        self, pre: Tensor, post: Tensor, norm: float | None, reward: float | Tensor | None = None, **signals: Tensor
    ) -> None:
        """Update the weights by spikes of a dense layer."""
        weight = self.linear.weight
        if reward is None and self.rule.tau_eligibility is not None:
            reward = 0.0
        if isinstance(self.linear, _SPARSE):
            self.state = ops.sparse_stdp_(
                weight,
                pre,
                post,
                self.linear.connectivity,
                rule=self.rule,
                dt=self.dt,
                state=self.state,
                reward=reward,
                reduction=self.reduction,
                update=self.update,
                norm=norm,
                sources=self.sources,
                validate=self.state is None,
                **signals,
            )
            return
        w = weight if weight.dim() == 2 else weight.detach().reshape(len(weight), -1)
        self.state = ops.stdp_(
            *(w, pre, post),
            rule=self.rule,
            dt=self.dt,
            state=self.state,
            reward=reward,
            reduction=self.reduction,
            update=self.update,
            norm=norm,
            validate=self.state is None,
            **signals,
        )
        if w.data_ptr() != weight.data_ptr():  # w is a copy: the kernel is channels-last
            with torch.no_grad():
                weight.copy_(w.view_as(weight))

    def _places(
        self, conv: nn.Conv2d, pre: Tensor, post: Tensor, reward: float | Tensor | None, signals: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, float | Tensor | None, dict[str, Tensor]]:
        """Return the positions of a convolution as samples: ``[T, B L, C K K]`` before it, ``[T, B L, O]`` after it."""
        check.shape("STDP", "pre", pre, ("T", "B", conv.in_channels, "H", "W"))
        steps, batch = pre.shape[:2]
        geometry: Any = (conv.kernel_size, conv.dilation, conv.padding, conv.stride)

        places = functional.unfold(pre[:1, :1].flatten(0, 1).to(conv.weight.dtype), *geometry).shape[2]

        def before(value: Tensor) -> Tensor:
            patches = functional.unfold(value.flatten(0, 1), *geometry)  # [T B, C K K, L]
            return patches.transpose(1, 2).reshape(steps, batch * places, -1)

        def after(value: Tensor) -> Tensor:
            return value.flatten(3).transpose(2, 3).reshape(steps, batch * places, -1)

        wanted = (steps, batch, conv.out_channels)
        if post.dim() != 5 or post.shape[:3] != wanted or post[0, 0, 0].numel() != places:
            raise ValueError(
                f"STDP: post must be the spikes behind the convolution, [{steps}, {batch}, {conv.out_channels}, H, W] "
                f"with {places} places, got {list(post.shape)}"
            )
        if isinstance(reward, Tensor) and reward.dim() == 2:
            reward = reward.repeat_interleave(places, 1)
        for name, value in signals.items():
            check.shape("STDP", name, value, (pre if is_presynaptic(name) else post).shape)
        signals = {name: before(value) if is_presynaptic(name) else after(value) for name, value in signals.items()}
        return before(pre.to(conv.weight.dtype)), after(post), reward, signals

    def step(self, pre: Tensor, post: Tensor, reward: float | Tensor | None = None, **signals: Tensor) -> None:
        """Run a single step: ``pre`` ``[B, in_features]``, ``post`` ``[B, out_features]``, ``reward`` ``[B]``."""
        dims, shape = (4, "[B, C, H, W]") if isinstance(self.linear, nn.Conv2d) else (2, "[B, N]")
        for name, value in (("pre", pre), ("post", post), *signals.items()):
            check.tensor("STDP", name, value)
            if value.dim() != dims:
                raise ValueError(f"STDP: {name} of one step must have shape {shape}, got {list(value.shape)}")
        if isinstance(reward, Tensor) and reward.dim() == 1:
            reward = reward[None]
        self.run(pre[None], post[None], reward, **{name: value[None] for name, value in signals.items()})

    def reward(self, reward: float | Tensor) -> None:
        """Convert eligibility into weight changes, as if ``reward``, a number or ``[B]``, had come with the last step.

        With ``norm`` the last call has scaled the weights; this scales them again.
        """
        if self.state is None or self.state.eligibility is None:
            raise ValueError("STDP: reward needs eligibility: a reward-modulated rule, and spikes since the last reset")
        eligibility, weight = self.state.eligibility, self.linear.weight.detach()
        if isinstance(self.linear, _SPARSE):
            learning = self.linear.connectivity.out_of(self.sources)
            eligibility, weight = eligibility[:, learning], weight[learning]
        w = weight if isinstance(self.linear, _SPARSE) else weight.reshape(len(weight), -1)
        if not isinstance(reward, Tensor):
            reward = w.new_full((), check.number("STDP", "reward", reward))
        batch = len(eligibility)
        check.dtype("STDP", "reward", reward.dtype, check.FLOATING)
        if reward.shape not in ((), (batch,)):
            raise ValueError(f"STDP: reward must be a number or have shape [{batch}], got {list(reward.shape)}")
        check.on_device("STDP", "reward", reward, "linear.weight", w.device)
        check.finite("STDP", "reward", reward)
        change = torch.einsum("b,b...->...", reward.to(w).expand(batch), eligibility)
        scale = 1 / max(batch, 1) if self.reduction == "mean" else 1.0
        w.add_(change, alpha=scale).clamp_(self.rule.w_min, self.rule.w_max)
        weight.copy_(w.view_as(weight))
        self._finish(batch)

    def listen(self, neurons: nn.Module) -> Listening:
        """Learn in every forward pass of ``neurons`` in training mode, from the last input of ``linear``.

        ``neurons`` returns spikes ``[T, B, out_features]``, alone or first in a tuple; ``linear``, alone or in
        :class:`snnfast.nn.Time`, must have received spikes ``[T, B, in_features]`` before. ``remove()`` of the returned
        handle ends learning. A deep or unpickled copy of a network that holds both learns independently. For recurrent
        weights ``neurons`` is the recurrent layer itself.
        """
        within = isinstance(self.linear, SparseRecurrent) and self.update == "step"
        return (_WithinCall if within else Listening)(self, neurons)

    def __repr__(self) -> str:
        return f"STDP({self.linear}, {self.rule})"


_SPARSE = (SparseLinear, SparseRecurrent)
_RECURRENT = (Recurrent, SparseRecurrent)


class Listening:
    """The hooks of :meth:`STDP.listen`, as methods because nested functions cannot be copied or pickled."""

    def __init__(self, learner: STDP, neurons: nn.Module) -> None:
        self._learner = learner
        self._heard: Tensor | None = None
        linear = learner.linear
        if isinstance(linear, _RECURRENT):
            if neurons is not linear:
                raise ValueError(f"STDP: neurons must be the recurrent layer that learns, got {check.kind(neurons)}")
            if isinstance(linear, Recurrent) and (linear.delay is not None or linear.d is not None):
                raise ValueError(
                    "STDP: the recurrent layer must have no delays, got some; call run with the spikes that arrive"
                )
        self.handles = (
            learner.linear.register_forward_pre_hook(self._hear),
            neurons.register_forward_hook(self._learn),
        )

    def remove(self) -> None:
        """End learning by forward passes."""
        for handle in self.handles:
            handle.remove()

    def _hear(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        heard = module.past if isinstance(module, _RECURRENT) else inputs[0]  # the last spikes before this call
        self._heard = None if heard is None else heard.detach()

    def _learn(self, module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        linear, heard = self._learner.linear, self._heard
        self._heard = None
        if module.training and (heard is not None or isinstance(linear, _RECURRENT)):
            post = output[0] if isinstance(output, tuple) else output
            pre = post.new_zeros(0, *post.shape[1:]) if heard is None else heard
            if isinstance(linear, _RECURRENT):  # spikes arrive later
                delay = linear.connectivity.longest if isinstance(linear, SparseRecurrent) else 1
                at_rest = post.new_zeros(delay, *post.shape[1:])
                pre = torch.cat((at_rest, pre.to(post.dtype), post.detach()))[-delay - len(post) : -delay]
                inputs = linear.neuron.num_inputs
                post = post if inputs == 1 else post.repeat(1, 1, inputs)
            elif pre.dim() in (2, 4) and len(pre) == math.prod(post.shape[:2]):
                pre = pre.unflatten(0, post.shape[:2])  # Time folds steps into the batch
            self._learner.run(pre, post)


class _WithinCall(Listening):
    """The same for sparse recurrent weights that change at every step."""

    def _hear(self, module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        learner = self._learner
        if module.training:
            how: Any = {"dt": learner.dt, "reduction": learner.reduction, "sources": learner.sources}
            module.plasticity = Online(learner.rule, state=learner.state, **how)  # type: ignore[arg-type, assignment]

    def _learn(self, module: Any, _inputs: tuple[Any, ...], _output: Any) -> None:
        online, module.plasticity = module.plasticity, None
        if online is None:
            return
        self._learner.state = online.state
        self._learner._finish(len(online.state.trace_pre))
