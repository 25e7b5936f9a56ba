"""Online training through time: gradients of feed-forward networks at every step, by spike traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.nn import IF, LI, LIF, Time

__all__ = ["OTTT"]

Loss = Callable[[Tensor, Tensor], Tensor]
_NEURONS = (LIF, IF, LI)


class OTTT:
    """Online training of a feed-forward network, in memory that does not grow with the sequence.

    For layers ``u[t] = decay v[t-1] + gain W s_in[t]`` with spikes ``s`` of the membranes ``u``::

        trace[t] = decay trace[t-1] + s_in[t]                          of the input, with the decay of the neurons
        dL/dW    = sum over t of gain delta[t] trace[t]^T
        delta[t] = dL[t]/ds[t] ds[t]/du[t]                             back through the layers, within the step

    The gradient of a step goes back through the layers of that step alone, as in a network without time, and reaches
    earlier steps only by the traces. With one layer of neurons and detached soft resets (``detach_reset=True``,
    ``v_reset=None``) it equals that of backpropagation through time; with several layers it omits the paths of errors
    through earlier steps of the layers between. Biases have traces of 1.

    :meth:`step` takes any number of steps; the fused kernels run the neurons, and one pass computes the gradients of
    all steps. Between calls each layer stores one trace per input.

    Args:
        net: an ``nn.Sequential`` of linear layers and convolutions, pooling and other layers without parameters, each
            in a :class:`snnfast.nn.Time` of its own (linear ones need none), and neurons :class:`snnfast.nn.LIF`,
            :class:`snnfast.nn.IF` or, as a readout, :class:`snnfast.nn.LI`, with a number as time constant. A linear
            layer at the end without neurons gives outputs of each step alone.
        loss: function of the outputs ``[K, B, ...]`` and the targets passed to :meth:`step`; returns a scalar.

    Example:
        >>> learn = snnfast.learning.OTTT(net, nn.loss.ce_steps)
        >>> for x, labels in stream:                # [K, B, ...], [K, B]
        ...     optimizer.zero_grad()
        ...     outputs = learn.step(x, labels)     # adds to the parameters' gradients
        ...     optimizer.step()
        >>> learn.reset()                           # before another sequence

    Raises:
        TypeError, ValueError: for an unsupported network, or arguments of wrong type or shape.

    Source: Xiao, Meng, Zhang, He, Lin, Online training through time for spiking neural networks, NeurIPS 2022.
    """

    def __init__(self, net: nn.Sequential, loss: Loss) -> None:
        if not isinstance(net, nn.Sequential):
            raise TypeError(f"OTTT: net must be an nn.Sequential, got {check.kind(net)}")
        self.loss = loss
        self._layers: list[_Weights | _Neurons | nn.Module] = []
        waiting: _Weights | None = None
        for layer in net:
            if isinstance(layer, _NEURONS):
                _check_layer(layer)
                self._layers.append(_Neurons(layer))
                if waiting is not None:
                    waiting.neurons, waiting = layer, None
            elif not any(p.requires_grad for p in layer.parameters()):
                if not isinstance(layer, (Time, nn.Identity)):
                    raise TypeError(f"OTTT: layers without parameters must be in Time, got {type(layer).__name__}")
                self._layers.append(layer)
            else:
                weights = _Weights(layer)
                if waiting is not None:
                    raise ValueError("OTTT: neurons must follow all layers with weights but the last")
                self._layers.append(waiting := weights)
        if not any(isinstance(layer, _Weights) for layer in self._layers):
            raise ValueError("OTTT: net must have layers with weights")

    @torch.enable_grad()
    def step(self, x: Tensor, target: Tensor) -> Tensor:
        """Run ``K`` steps and add their gradients to those of the parameters.

        Args:
            x: input ``[K, B, ...]``; the same ``B`` until :meth:`reset`.
            target: the second argument of ``loss``.

        Returns:
            the outputs ``[K, B, ...]``, without a graph.
        """
        check.sequence("OTTT", x)
        if x.dim() < 3 or len(x) == 0:
            raise ValueError(f"OTTT: x must have shape [K, B, ...] with at least one step, got {list(x.shape)}")
        weight = next(layer.inner.weight for layer in self._layers if isinstance(layer, _Weights))
        check.dtype("OTTT", "x", x.dtype, (weight.dtype,))
        y = x.detach()
        for layer in self._layers:
            y = layer(y)
        value = self.loss(y, target)
        if not isinstance(value, Tensor) or value.dim():
            raise ValueError(f"OTTT: loss must give a scalar, got {check.shown(value)}")
        value.backward()
        return y.detach()

    def reset(self) -> None:
        """Forget membranes and traces: the next step begins another sequence, with any batch size."""
        for layer in self._stateful:
            layer.state = None

    def state_dict(self) -> dict[str, Any]:
        """Return membranes and traces, without the network's weights."""
        return {"kept": [layer.state for layer in self._stateful]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: the state is of a network with another number of layers.
        """
        if len(state["kept"]) != len(self._stateful):
            raise ValueError(f"OTTT: the state must be of {len(self._stateful)} layers, got {len(state['kept'])}")
        for layer, saved in zip(self._stateful, state["kept"]):
            layer.state = saved

    @property
    def _stateful(self) -> list[_Weights | _Neurons]:
        return [layer for layer in self._layers if isinstance(layer, (_Weights, _Neurons))]


class _Weights:
    """A layer with weights: its output is of the input, the gradient of its weights of the input's trace."""

    def __init__(self, layer: nn.Module) -> None:
        inner = layer.layer if isinstance(layer, Time) else layer
        if not isinstance(inner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) or (
            not isinstance(layer, Time) and not isinstance(inner, nn.Linear)
        ):
            raise TypeError(
                "OTTT: layers with weights must be nn.Linear, or linear or convolutions in Time, one in each, got "
                f"{type(inner).__name__}"
            )
        self.layer, self.inner = layer, inner
        self.neurons: nn.Module | None = None
        self.state: tuple[Tensor | None, float] | None = None  # the traces of the input and of 1

    def __call__(self, x: Tensor) -> Tensor:
        trace, decay = x.detach(), 0.0
        end, end_unit = self.state or (None, 0.0)
        if self.neurons is not None:
            decay = _decay(self.neurons)
            trace, end = ops.li(trace, end, decay=decay, decay_input=False)
        unit_trace = [end_unit := decay * end_unit + 1 for _ in range(len(x))]
        self.state = end, end_unit
        ones = torch.tensor(unit_trace, dtype=x.dtype, device=x.device)
        arguments = self.layer, self.inner, x, trace, ones, self.inner.weight, self.inner.bias
        found: Tensor = _Traced.apply(*arguments)  # type: ignore[no-untyped-call]
        return found


class _Traced(torch.autograd.Function):
    """``layer(x)`` with the gradients of ``layer(trace)`` for the weights and of ``ones * bias`` for the bias."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: nn.Module,
        inner: nn.Linear | nn.Conv2d,
        x: Tensor,
        trace: Tensor,
        ones: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.inner = inner
        ctx.save_for_backward(trace, ones, weight)
        y: Tensor = layer(x)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), inner, (trace, ones, weight) = grads, ctx.inner, ctx.saved_tensors
        _, _, to_x, _, _, to_weight, to_bias = ctx.needs_input_grad
        by_x = by_weight = by_bias = None
        if isinstance(inner, nn.Linear):
            by_x = grad @ weight if to_x else None
            by_weight = grad.flatten(0, -2).T @ trace.flatten(0, -2) if to_weight else None
        elif to_x or to_weight:
            leaf, weight = trace.detach().requires_grad_(), weight.detach().requires_grad_()
            with torch.enable_grad():
                y = inner._conv_forward(leaf.flatten(0, 1), weight, None)
            by_x, by_weight = torch.autograd.grad(y, (leaf, weight), grad.flatten(0, 1))
        if to_bias:
            channel = -1 if isinstance(inner, nn.Linear) else 1 - weight.dim()
            by_bias = torch.tensordot(ones, grad, 1).movedim(channel, 0).flatten(1).sum(1)
        return None, None, by_x, None, None, by_weight, by_bias


class _Neurons:
    """Neurons whose gradient stays within the step: the steps of the sequence run as samples of a single step."""

    def __init__(self, layer: LIF | IF | LI) -> None:
        self.layer = layer
        self.state: Tensor | None = None  # the membrane

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        seen, arguments = x.detach(), layer._arguments(x)
        if isinstance(layer, LI):
            v_seq, end = ops.li(seen, self.state, **arguments)
        else:
            arguments |= {"return_state": True, "return_v_seq": True}
            _, end, v_seq = layer.function(seen, self.state, **arguments)
        rest = torch.full_like(end, _rest(layer)) if self.state is None else self.state
        before = torch.cat([rest[None], v_seq[:-1]]).flatten(0, 1)
        self.state = end
        run = ops.li if isinstance(layer, LI) else layer.function
        found: Tensor = run(x.flatten(0, 1)[None], before, **arguments)[0].view_as(x)
        return found


def _rest(layer: LIF | IF | LI) -> float:
    """Return the membrane before the first step."""
    rest: Any = getattr(layer, "v_rest", None)
    if rest is None and not isinstance(layer, LI):
        rest = layer.v_reset
    return float(rest or 0.0)


def _decay(layer: nn.Module) -> float:
    return 1.0 if isinstance(layer, IF) else float(layer.decay)  # type: ignore[arg-type]


def _check_layer(layer: LIF | IF | LI) -> None:
    name = type(layer).__name__
    for constant in ("tau", "decay", "v_rest", "v_reset"):
        value = getattr(layer, constant, None)
        if isinstance(value, Tensor):
            raise ValueError(
                f"OTTT: {constant} of {name} must be a number, got a tensor {list(value.shape)}: a trace has one decay"
            )
    if getattr(layer, "refractory", 0):
        raise ValueError(f"OTTT: {name} must have no refractory period, in which its input is lost")
