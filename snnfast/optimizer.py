"""Optimizers with the calls of n3ml. Every network here also trains with any optimizer of ``torch.optim``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from snnfast import check
from snnfast.loss import bp_stdp_error
from snnfast.model import Bohte2002, TavanaeiAndMaida2017
from snnfast.ops import bp_stdp_
from snnfast.ops.spikeprop import Pull

__all__ = ["Bohte", "TavanaeiAndMaida"]

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


class TavanaeiAndMaida:
    """BP-STDP's update (Tavanaei and Maida 2019) step by step, as in the manual's loop.

    The whole loop in one call, with the same result, is :meth:`snnfast.model.TavanaeiAndMaida2017.fit`.

    Args:
        model: what is trained.
        lr: learning rate.
        epsilon: steps that a window reaches back.

    Example:
        >>> model = TavanaeiAndMaida2017(hidden_neurons=20)
        >>> optimizer, spikes = TavanaeiAndMaida(model), torch.zeros(784)
        >>> model(spikes)
        >>> buffer = {"inp": [spikes], "fc1": [model.fc1.o], "fc2": [model.fc2.o]}
        >>> optimizer.step(buffer, spiked_label=torch.eye(10)[3], label=3)
    """

    def __init__(
        self, model: TavanaeiAndMaida2017, lr: float = 0.0005, *, epsilon: int = 4
    ) -> None:
        self.model, self.lr, self.epsilon = model, lr, epsilon
        check.at_least_zero("TavanaeiAndMaida", "lr", lr)
        check.whole("TavanaeiAndMaida", "epsilon", epsilon)

    def step(
        self,
        spike_buffer: Mapping[str, Sequence[Tensor]],
        spiked_label: Tensor,
        label: int | Tensor,
    ) -> None:
        """Changes the weights by what is wrong in the last step.

        Args:
            spike_buffer: spikes of the last steps, the newest last, ``[N]`` or ``[B, N]`` each: of the inputs under
                "inp", of the layers under "fc1", "fc2", ... Of more than ``epsilon + 1`` steps the last ones count.
            spiked_label: spikes desired in this step, ``[classes]`` or ``[B, classes]``; nothing changes where the
                class's is 0.
            label: class, or int64 ``[B]``.

        Raises:
            KeyError: a layer is missing in the buffer.
            TypeError, ValueError: for shapes that do not fit, labels out of range, weights that are not finite. The
                weights are untouched.
        """
        layers = self.model.layers
        names = ["inp", *(f"fc{depth + 1}" for depth in range(len(layers)))]
        *before, outputs = (self._window(spike_buffer, name) for name in names)
        wanted = torch.zeros_like(outputs)
        wanted[-1] = spiked_label if spiked_label.dim() == 2 else spiked_label[None]
        error = bp_stdp_error(outputs, wanted, label, self.epsilon).to(outputs.dtype)
        if not bool(error.any()):
            return
        for layer, pre in zip(layers, before):
            if pre.shape[2] != layer.weight.shape[1]:
                raise ValueError(
                    f"TavanaeiAndMaida: spike_buffer must hold {layer.weight.shape[1]} neurons "
                    f"before {layer}, got {pre.shape[2]}"
                )
        for layer in layers:
            check.finite("TavanaeiAndMaida", "weights", layer.weight)
        for depth in reversed(range(len(layers))):
            passed = bp_stdp_(
                layers[depth].weight,
                before[depth],
                error,
                lr=self.lr,
                epsilon=self.epsilon,
                return_error=depth > 0,
                validate=False,
            )
            if passed is not None:
                # Errors are of the last step alone.
                passed[:-1] = 0
                error = passed

    def _window(self, spike_buffer: Mapping[str, Sequence[Tensor]], name: str) -> Tensor:
        if name not in spike_buffer:
            raise KeyError(f"TavanaeiAndMaida: spike_buffer must have {name!r}")
        steps = list(spike_buffer[name])[-(self.epsilon + 1) :]
        if not steps:
            raise ValueError(f"TavanaeiAndMaida: spike_buffer[{name!r}] must hold a step or more")
        window = torch.stack(steps)
        return window if window.dim() == 3 else window[:, None]
