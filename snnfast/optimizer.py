"""Optimizers with the calls of n3ml. Every network here also trains with any optimizer of ``torch.optim``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snnfast import check
from snnfast.model import Bohte2002
from snnfast.ops.spikeprop import Pull

__all__ = ["Bohte"]

Gradients = list[tuple[Tensor, Tensor]]  # of parameters


class Bohte:
    """SpikeProp's update (Bohte et al. 2002, equations 4 to 15): gradient descent on the distance to target times.

    ``w -= lr dE/dw`` with ``E = 1/2 sum_j (t_j - target_j)^2``, the mean over samples if there are several. All
    gradients are taken before any weight changes; n3ml's hidden layer sees output weights that have changed already.

    Args:
        lr: learning rate.
        minimum: weights are kept at least this large; None: no bound. n3ml keeps them between 0.02 and 1, so that no
            neuron can inhibit, which learns slower and reaches less.
        maximum: weights are kept at most this large.

    Example:
        >>> model, optimizer = Bohte2002(), Bohte()
        >>> optimizer.step(model, spiked_input=torch.rand(50) * 10, spiked_label=torch.tensor([8.0, 13, 13]))
    """

    def __init__(
        self, lr: float = 0.0075, *, minimum: float | None = None, maximum: float | None = None
    ) -> None:
        self.lr = check.number("Bohte", "lr", lr)
        if self.lr <= 0:
            raise ValueError(f"Bohte: lr must be positive, got {self.lr:g}")
        self.minimum, self.maximum = minimum, maximum

    def step(self, model: Bohte2002, spiked_input: Tensor, spiked_label: Tensor) -> Tensor:
        """Runs the network, changes its weights, and tells how it had answered.

        Args:
            model: what is trained: its parameters, so delays as well if they are learned.
            spiked_input: spike times of the inputs ``[in_neurons]`` or ``[B, in_neurons]``; -1 or ``inf`` for silent.
            spiked_label: times wanted of the outputs, ``[out_neurons]`` or ``[B, out_neurons]``.

        Returns:
            the outputs' spike times before the change, shaped like ``spiked_label``. A silent output is ``inf``, and
            changes nothing, unless the model gives it a virtual time.
        """
        batch = spiked_input if spiked_input.dim() == 2 else spiked_input[None]
        t, pull = self._run(model, batch)
        shape = t.shape[2 - spiked_input.dim() :]
        if spiked_label.shape != shape:
            raise ValueError(
                f"Bohte: spiked_label must have the shape of the outputs, {list(shape)}, "
                f"got {list(spiked_label.shape)}"
            )
        with torch.no_grad():
            # dE/dt of spike_time_squared_error: inf where a neuron is silent, which then does not count.
            error = (t - spiked_label.to(t)) / len(t)
            error.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            for parameter, gradient in pull(error):
                parameter.sub_(gradient, alpha=self.lr)
                if self.minimum is not None or self.maximum is not None:
                    parameter.clamp_(self.minimum, self.maximum)
        return t.detach().view(shape)

    def _run(self, model: Bohte2002, batch: Tensor) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
        """The output times, and a function from their gradient to the parameters and theirs."""
        if model.weights_only:
            t, pulls = model.untracked(batch)
            return t, lambda error: _back(pulls, error)
        tracked: Tensor = model(batch)
        parameters = [p for p in model.parameters() if p.requires_grad]
        return tracked.detach(), lambda error: list(
            zip(parameters, torch.autograd.grad(tracked, parameters, error))
        )


def _back(pulls: list[tuple[Tensor, Pull]], error: Tensor) -> Gradients:
    found: Gradients = []
    for depth in reversed(range(len(pulls))):
        weight, pull = pulls[depth]
        error_before, gradient = pull(error, depth > 0)
        found.append((weight, gradient))
        error = error_before  # type: ignore[assignment]
    return found
