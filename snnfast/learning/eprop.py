"""e-prop: online gradients of recurrent networks by eligibility traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import check, ops
from snnfast.nn import LI, Recurrent, Time
from snnfast.nn.spiking import Spiking

__all__ = ["EProp"]

Loss = Callable[[Tensor, Tensor], Tensor]
FILTER = "readout filter"  # the space keeps it apart from the names of neuron states


class EProp:
    """Online training of a recurrent network, in memory that does not grow with the sequence.

    For a layer of neurons with states ``h``, spikes ``z`` and input current ``I[t] = W (x[t], z[t-1], 1)``, and a
    readout ``y[t] = kappa y[t-1] + gain (W_out z[t] + b_out)``::

        eps_ji[t] = dh_j[t]/dh_j[t-1] eps_ji[t-1] + dh_j[t]/dI_j[t] (x[t], z[t-1], 1)_i     eligibility vector
        e_ji[t]   = dz_j[t]/dh_j[t] eps_ji[t]                                               eligibility trace
        dE/dW_ji  = sum over t of sum over k of B_kj dE/dy_k[t] (kappa-filtered e_ji)[t]

    The gradient is that of backpropagation through time without the paths through recurrent spikes. It is exact without
    recurrent connections and with ``feedback="symmetric"``, where ``B`` is ``W_out``. Learned parameters of neurons
    have eligibility traces, too. The readout's weights have their exact gradient.

    :meth:`step` takes any number of steps. It computes their traces with the fused kernels: one backward pass per state
    and one matrix product. Between calls it stores the traces, ``(states + 1) B N (inputs + N + 1)`` numbers per layer.
    Calls of ten to a hundred steps are therefore several times as fast as single steps, with the same gradients up to
    rounding.

    Args:
        net: an ``nn.Sequential`` of linear layers (``nn.Linear`` or ``nn.SpikeLinear``, in :class:`snnfast.nn.Time` or
            not), each followed by neurons, alone or in :class:`snnfast.nn.Recurrent` (without delays); a linear layer
            at the end, and optionally :class:`snnfast.nn.LI` with a number as time constant after it. The ``layers``
            of :class:`snnfast.papers.SequenceNetwork` are such a network.
        loss: function of the outputs ``[K, B, classes]`` and the targets passed to :meth:`step`; returns a scalar. The
            gradients of a sequence in parts add up: a loss that sums over steps gives the gradient of the whole.
        feedback: ``"symmetric"``, or ``"random"`` for matrices ``B`` that are drawn once, as the readout's weights
            were. Several hidden layers need ``"random"``: each gets the error of the outputs directly.
        generator: CPU generator that draws the random matrices; None: PyTorch's global one.

    Example:
        >>> learn = snnfast.learning.EProp(net, nn.loss.ce_steps)
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> for x, labels in stream:                # [K, B, in_features], [K, B]
        ...     optimizer.zero_grad()
        ...     outputs = learn.step(x, labels)     # adds to the parameters' gradients
        ...     optimizer.step()
        >>> learn.reset()                           # before another sequence

    Attributes:
        feedback: the matrix ``B`` ``[classes, N]`` of each hidden layer; None where ``B`` is the readout's weights.

    Raises:
        TypeError, ValueError: for an unsupported network, or arguments of wrong type, shape or range.

    Source: Bellec et al., A solution to the learning dilemma for recurrent networks of spiking neurons, Nature
    Communications 11 (2020). Its neurons pass no gradient through the reset; that is ``detach_reset`` of the layers.
    """

    def __init__(
        self, net: nn.Sequential, loss: Loss, *, feedback: str = "symmetric", generator: torch.Generator | None = None
    ) -> None:
        check.choice("EProp", "feedback", feedback, ("symmetric", "random"))
        if not isinstance(net, nn.Sequential):
            raise TypeError(f"EProp: net must be an nn.Sequential, got {check.kind(net)}")
        layers = list(net)
        self._li = layers[-1] if layers and isinstance(layers[-1], LI) else None
        if self._li is not None:
            _check_readout(self._li)
            layers.pop()
        if len(layers) < 3 or len(layers) % 2 == 0:
            raise ValueError(
                "EProp: net must be linear layers and neurons in turn, a linear layer, and LI or nothing, got "
                f"{', '.join(type(layer).__name__ for layer in net)}"
            )
        linears = [_linear(layer) for layer in layers[::2]]
        self._readout = linears[-1]
        self._layers = [_Layer(linear, cell, self._li) for linear, cell in zip(linears, layers[1::2])]
        for before, after in pairwise(linears):
            if after.in_features != before.out_features:
                raise ValueError(
                    f"EProp: a linear layer after {before.out_features} neurons must take as many inputs, got "
                    f"{after.in_features}"
                )
        self.loss = loss
        self.feedback: list[Tensor] | None = None
        if feedback == "random":
            like = self._readout.weight
            bound = 1 / self._readout.in_features**0.5
            drawn = (
                torch.empty(len(like), linear.out_features).uniform_(-bound, bound, generator=generator)
                for linear in linears[:-1]
            )
            self.feedback = [back.to(like) for back in drawn]
        elif len(self._layers) > 1:
            raise ValueError(
                "EProp: several hidden layers need feedback='random': only the last one has weights to the outputs"
            )
        self._bias: Tensor | None = None  # final state of the readout's filter for a constant 1

    @torch.enable_grad()
    def step(self, x: Tensor, target: Tensor) -> Tensor:
        """Run ``K`` steps and add their gradients to those of the parameters.

        Args:
            x: input ``[K, B, in_features]``; ``K`` at least 1, the same ``B`` until :meth:`reset`.
            target: the second argument of ``loss``.

        Returns:
            the outputs ``[K, B, classes]``, without a graph.
        """
        check.sequence("EProp", x)
        inputs = self._layers[0].linear.in_features
        if x.dim() != 3 or x.shape[2] != inputs or len(x) == 0:
            raise ValueError(f"EProp: x must have shape [K, B, {inputs}] with at least one step, got {list(x.shape)}")
        seen = x.detach()
        for layer in self._layers:
            seen = layer.run(seen)
        weight, bias = self._readout.weight, self._readout.bias
        y = F.linear(self._layers[-1].filtered.detach(), weight)
        if bias is not None:
            constant = torch.ones_like(y[:, :1, :1])
            if self._li is None:
                y = y + bias
            else:
                steady, self._bias = ops.li(constant, self._bias, **self._li._arguments(constant))
                y = y + bias * steady
        value = self.loss(y, target)
        if not isinstance(value, Tensor) or value.dim():
            raise ValueError(f"EProp: loss must give a scalar, got {check.shown(value)}")
        learned = [p for p in (weight, bias) if p is not None and p.requires_grad]
        error, *grads = torch.autograd.grad(value, [y, *learned])
        for parameter, grad in zip(learned, grads):
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        feedback = [weight] if self.feedback is None else self.feedback
        for layer, back in zip(self._layers, feedback):
            layer.learn(error @ back.detach().to(error))
        return y.detach()

    def reset(self) -> None:
        """Forget states and traces: the next step begins another sequence, with any batch size."""
        self._bias = None
        for layer in self._layers:
            layer.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return states, traces and feedback as plain values and tensors, without the network's parameters."""
        return {"bias": self._bias, "feedback": self.feedback, "layers": [layer.state_dict() for layer in self._layers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: the state is of a network with another number of layers.
        """
        if len(state["layers"]) != len(self._layers):
            raise ValueError(
                f"EProp: the state must be of {len(self._layers)} hidden layers, got {len(state['layers'])}"
            )
        self._bias, self.feedback = state["bias"], state["feedback"]
        for layer, saved in zip(self._layers, state["layers"]):
            layer.load_state_dict(saved)


class _Layer:
    """A linear layer, the neurons after it, and their eligibility traces.

    The readout's filter counts as one more state of each neuron: the filter is linear, so it may precede the readout's
    weights.
    """

    filtered: Tensor  # the spikes after the readout's filter

    def __init__(self, linear: nn.Linear, cell: nn.Module, li: LI | None) -> None:
        self.linear, self.cell, self.li = linear, cell, li
        neuron = cell.neuron if isinstance(cell, Recurrent) else cell
        if not isinstance(neuron, Spiking):
            raise TypeError(f"EProp: a linear layer must be followed by neurons that fire, got {type(cell).__name__}")
        if isinstance(cell, Recurrent):
            if cell.delays is not None:
                raise ValueError(
                    "EProp: recurrent connections must have no delays: their spikes arrive after the traces"
                )
            if cell.features != linear.out_features:
                raise ValueError(f"EProp: Recurrent has {cell.features} neurons after {linear.out_features} outputs")
        self.neuron = neuron
        self.reset()

    def reset(self) -> None:
        self.states: dict[str, Tensor | None] = {name: None for name in (*self.neuron.states, FILTER)}
        self.past: Tensor | None = None
        # Derivatives of each state by the weights [B, N, P], and by the neurons' parameters [B, N].
        self.traces: dict[str, Tensor] = {}
        self.parameter_traces: dict[str, dict[str, Tensor]] = {}
        self._carry: Callable[[], None] | None = None

    def run(self, x: Tensor) -> Tensor:
        """Return the spikes ``[K, B, N]`` for inputs ``[K, B, M]``, without a graph."""
        self.carry()
        neuron, linear = self.neuron, self.linear
        x = x.to(linear.weight)
        current = linear(x).detach()
        arguments = neuron._arguments(current) | {"return_state": True, "return_v_seq": False}
        initial = {name: s for name, s in self.states.items() if s is not None}
        q = initial.pop(FILTER, torch.zeros_like(current[0]))
        weights, seen = [linear.weight], [x]
        if isinstance(self.cell, Recurrent):
            back = self.cell.connected(self.cell.weight)
            with torch.no_grad():
                arrived = torch.zeros_like(current[:1]) if self.past is None else self.past
                if len(x) > 1:
                    z = neuron.recurrent(current, back, self.past, **initial, **arguments)[0]
                    arrived = torch.cat([arrived, z[:-1]])
                current += F.linear(arrived, back)
            weights.append(back)
            seen.append(arrived)
        if linear.bias is not None:
            weights.append(linear.bias[:, None])
            seen.append(torch.ones_like(x[..., :1]))
        self.weights, self.seen = torch.cat(weights, 1), torch.cat(seen, 2)
        # The leaves of this call's graph: everything on which its spikes and final states depend.
        self.current = current.requires_grad_()
        differentiable = {name: s.detach().requires_grad_() for name, s in initial.items() if s.is_floating_point()}
        self.begin = differentiable | {FILTER: q.detach().requires_grad_()}
        self.parameters = {
            name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.requires_grad
        }
        self.leaves = {
            name: value.detach().expand_as(q).clone().requires_grad_() for name, value in self.parameters.items()
        }
        spikes, *after = neuron.function(current, **(initial | differentiable | arguments | self.leaves))
        self.end = dict(zip(neuron.states, after))
        if self.li is None:
            self.filtered, self.end[FILTER] = spikes, spikes[-1] if len(x) == 1 else torch.zeros_like(q)
        else:
            self.filtered, self.end[FILTER] = ops.li(spikes, self.begin[FILTER], **self.li._arguments(spikes))
        self.states = {name: s.detach() for name, s in self.end.items()}
        self.past = spikes[-1:].detach()
        seen_next: Tensor = spikes.detach()
        return seen_next

    def learn(self, grad: Tensor) -> None:
        """Add the parameters' gradients, from the gradient ``[K, B, N]`` of ``filtered``."""
        self._carry = self._trace
        if len(grad) == 1:  # `filtered` is the filter's state after the call, whose trace the next call needs anyway
            self.carry()
            by_weight = grad[0][..., None] * self.traces[FILTER]
            by_parameter = {name: grad[0] * trace for name, trace in self.parameter_traces[FILTER].items()}
        else:
            by_weight, by_parameter = self._gradients(self.filtered, grad)
        learned, gradients = ([self.weights], [by_weight.sum(0)]) if self.weights.requires_grad else ([], [])
        for name, value in self.parameters.items():
            learned, gradients = [*learned, value], [*gradients, by_parameter[name].sum_to_size(value.shape)]
        if learned:
            torch.autograd.backward(learned, gradients)

    def carry(self) -> None:
        """Compute the traces after the last steps, which is delayed until they are needed."""
        if self._carry is not None:
            self._carry()
            self._carry = None

    def _trace(self) -> None:
        # The rest of a refractory period has no gradient; nor has, in several steps, a readout without a filter.
        ends = {name: end for name, end in self.end.items() if end.requires_grad}
        found = {name: self._gradients(end, torch.ones_like(end)) for name, end in ends.items()}
        self.traces = {name: by_weight for name, (by_weight, _) in found.items()}
        self.parameter_traces = {name: by_parameter for name, (_, by_parameter) in found.items()}

    def _gradients(self, outputs: Tensor, grad: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return gradients of ``outputs`` over all steps so far: by weights ``[B, N, P]``, by parameters ``[B, N]``."""
        sources = [self.current, *self.begin.values(), *self.leaves.values()]
        current, *found = torch.autograd.grad(outputs, sources, grad.to(outputs), retain_graph=True, allow_unused=True)
        by_weight = torch.einsum("kbn,kbp->bnp", current, self.seen)
        leaves = dict(zip(self.leaves, found[len(self.begin) :]))
        by_parameter = {n: torch.zeros_like(outputs[-1]) if g is None else g for n, g in leaves.items()}
        for before, by_state in zip(self.begin, found):
            if by_state is None or before not in self.traces:
                continue
            by_weight.addcmul_(by_state[..., None], self.traces[before])
            for name, trace in self.parameter_traces[before].items():
                by_parameter[name] = by_parameter[name] + by_state * trace
        return by_weight, by_parameter

    def state_dict(self) -> dict[str, Any]:
        self.carry()
        names = ("states", "past", "traces", "parameter_traces")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reset()
        for name, value in state.items():
            setattr(self, name, value)


def _linear(layer: nn.Module) -> nn.Linear:
    found = layer.layer if isinstance(layer, Time) else layer
    if not isinstance(found, nn.Linear):
        raise TypeError(f"EProp: net must have linear layers before neurons and at its end, got {type(layer).__name__}")
    return found


def _check_readout(li: LI) -> None:
    for name in ("tau", "decay", "v_rest"):
        value = getattr(li, name, None)
        if isinstance(value, Tensor):
            raise ValueError(f"EProp: {name} of LI must be a number, got a tensor {list(value.shape)}")
    if li.v_rest:
        raise ValueError(f"EProp: v_rest of LI must be 0, got {li.v_rest:g}")
