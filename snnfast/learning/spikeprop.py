"""SpikeProp's update of a network of neurons that fire once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.ops.spikeprop import Pull

Gradients = list[tuple[Tensor, Tensor]]  # of parameters


class _SpikeTimeNetwork(Protocol):
    """Layers of neurons that fire once, as :class:`snnfast.papers.Bohte2002`."""

    layers: Any

    @property
    def weights_only(self) -> bool: ...
    def untracked(self, t: Tensor) -> tuple[Tensor, list[tuple[Tensor, Pull]]]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def __call__(self, t: Tensor) -> Any: ...


class SpikePropDescent:
    """SpikeProp's update (Bohte et al. 2002, equations 4 to 15): gradient descent on the distance to target times.

    ``w -= lr dE/dw`` with ``E = 1/2 sum_j (t_j - target_j)^2``, the mean over samples if there are several. All
    gradients are taken before any weight changes; n3ml's hidden layer sees output weights that have changed already.

    Args:
        lr: learning rate.
        minimum: weights are kept at least this large; None: no bound. n3ml keeps them between 0.02 and 1, so that no
            neuron can inhibit, which learns slower and reaches less. Learned delays and ``tau`` have no bounds.
        maximum: weights are kept at most this large.

    Example:
        >>> net, learner = snnfast.papers.Bohte2002(), SpikePropDescent()
        >>> learner.step(net, torch.rand(50) * 10, torch.tensor([8.0, 13.0, 13.0]))
    """

    def __init__(self, lr: float = 0.0075, *, minimum: float | None = None, maximum: float | None = None) -> None:
        self.lr = check.positive("SpikePropDescent", "lr", lr)
        for name, bound in (("minimum", minimum), ("maximum", maximum)):
            if bound is not None:
                check.number("SpikePropDescent", name, bound)
        self.minimum, self.maximum = minimum, maximum
        if minimum is not None and maximum is not None and minimum > maximum:
            raise ValueError(f"SpikePropDescent: minimum must be at most maximum, {maximum:g}, got {minimum:g}")

    def step(self, model: _SpikeTimeNetwork, t_in: Tensor, target: Tensor) -> Tensor:
        """Run the network, update its weights, and return its outputs before the update.

        Args:
            model: the network to train: all its parameters, including learned delays.
            t_in: spike times of the inputs ``[in_features]`` or ``[B, in_features]``; -1 or ``inf`` for no spike.
            target: desired times of the outputs, ``[out_features]`` or ``[B, out_features]``; an output with ``inf``
                changes nothing.

        Returns:
            the outputs' spike times before the update, shaped like ``target``. A silent output is ``inf``, and
            changes nothing, unless the model gives it a virtual time.

        Raises:
            TypeError, ValueError: for arguments of wrong type, shape or range; nothing is changed then.
        """
        check.tensor("SpikePropDescent", "target", target)
        batch = t_in if t_in.dim() == 2 else t_in[None]
        t, pull = self._run(model, batch)
        shape = t.shape[2 - t_in.dim() :]
        if target.shape != shape:
            raise ValueError(
                f"SpikePropDescent: target must have the shape of the outputs, {list(shape)}, got {list(target.shape)}"
            )
        if bool(target.isnan().any()):
            raise ValueError("SpikePropDescent: target must be times, or inf, got NaN")
        with torch.no_grad():
            # dE/dt of spike_time_squared_error; inf where a neuron is silent, which does not count.
            error = (t - target.to(t)) / len(t)
            error.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            for parameter, gradient in pull(error):
                parameter.sub_(gradient, alpha=self.lr)
            if self.minimum is not None or self.maximum is not None:
                for layer in model.layers:
                    weight = cast(Tensor, layer.weight)
                    if weight.requires_grad:
                        weight.clamp_(self.minimum, self.maximum)
        return t.detach().view(shape)

    def _run(self, model: _SpikeTimeNetwork, batch: Tensor) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
        """Return the output times, and a function from their gradient to parameters and their gradients."""
        if model.weights_only:
            t, pulls = model.untracked(batch)
            return t, lambda error: _back(pulls, error)
        tracked: Tensor = model(batch)
        parameters = [p for p in model.parameters() if p.requires_grad]
        return tracked.detach(), lambda error: list(zip(parameters, torch.autograd.grad(tracked, parameters, error)))


def _back(pulls: list[tuple[Tensor, Pull]], error: Tensor) -> Gradients:
    found: Gradients = []
    for depth in reversed(range(len(pulls))):
        weight, pull = pulls[depth]
        error_before, gradient = pull(error, depth > 0)
        found.append((weight, gradient))
        error = error_before  # type: ignore[assignment]
    return found
