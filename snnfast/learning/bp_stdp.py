"""BP-STDP's update of a network, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from snnfast import check
from snnfast.nn.loss import bp_stdp_error
from snnfast.ops import bp_stdp_


class _LayeredNetwork(Protocol):
    """A single network of layers with weights, as :class:`snnfast.papers.TavanaeiAndMaida2017`."""

    networks: int | None

    @property
    def layers(self) -> Sequence[Any]: ...
    @property
    def weights(self) -> Sequence[Tensor]: ...


class BpStdp:
    """BP-STDP's update (Tavanaei and Maida 2019) step by step.

    The whole loop in one call, with the same result, is :meth:`snnfast.papers.TavanaeiAndMaida2017.fit`.

    Args:
        model: the network to train, a single one (``networks=None``).
        lr: learning rate.
        epsilon: number of earlier steps in a window.

    Example:
        >>> net = snnfast.papers.TavanaeiAndMaida2017(784, 20, 10)
        >>> learner, spikes = BpStdp(net), torch.zeros(784)
        >>> net(spikes)
        >>> learner.step([[spikes], [net.fc1.o], [net.fc2.o]], torch.eye(10)[3], 3)
    """

    def __init__(self, model: _LayeredNetwork, lr: float = 0.0005, *, epsilon: int = 4) -> None:
        if model.networks is not None:
            raise ValueError(
                f"BpStdp: model must be a single network, got networks={model.networks}; its fit trains several"
            )
        self.model, self.lr, self.epsilon = model, lr, epsilon
        check.at_least_zero("BpStdp", "lr", lr)
        check.integer("BpStdp", "epsilon", epsilon)

    def step(self, windows: Sequence[Sequence[Tensor]], desired: Tensor, label: int | Tensor) -> None:
        """Update the weights by the errors of the last step.

        Args:
            windows: the spikes of the last steps, newest last, of the inputs and then of every layer; each step is
                ``[N]`` or ``[B, N]``, and anything but 0 is a spike. Only the last ``epsilon + 1`` steps count; all
                windows must hold the same number of them.
            desired: desired spikes of this step, ``[classes]`` for all samples or ``[B, classes]``. A sample whose
                class has 0 here changes nothing.
            label: the class, or the classes, int64 ``[B]``.

        Raises:
            TypeError, ValueError: for windows and shapes that do not fit, labels out of range, weights that are not
                finite. The weights are then unchanged.
        """
        layers = self.model.layers
        if len(windows) != len(layers) + 1:
            raise ValueError(f"BpStdp: windows must be of the inputs and of {len(layers)} layers, got {len(windows)}")
        sizes = [layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in layers)]
        last = [self._last(depth, steps, n) for depth, (steps, n) in enumerate(zip(windows, sizes))]
        for depth, window in enumerate(last):
            if window.shape[:2] != last[0].shape[:2]:
                raise ValueError(
                    f"BpStdp: windows[{depth}] must hold as many steps and samples as windows[0], "
                    f"{list(last[0].shape[:2])}, got {list(window.shape[:2])}"
                )
        *before, outputs = last
        check.shape("BpStdp", "desired", desired, outputs.shape[2:], outputs.shape[1:])
        wanted = torch.zeros_like(outputs)
        wanted[-1] = desired != 0
        error = bp_stdp_error(outputs, wanted, label, self.epsilon).to(layers[0].weight.dtype)
        if not bool(error.any()):
            return
        for layer in layers:
            check.finite("BpStdp", "weights", layer.weight)
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
                # Only the last step has errors.
                passed[:-1] = 0
                error = passed

    def _last(self, depth: int, steps: Sequence[Tensor], neurons: int) -> Tensor:
        """Return the steps of a window that count, ``[T, B, neurons]``."""
        name, last = f"windows[{depth}]", list(steps)[-(self.epsilon + 1) :]
        if not last:
            raise ValueError(f"BpStdp: {name} must hold a step or more")
        for spikes in last:
            check.shape("BpStdp", name, spikes, [neurons], ["B", neurons])
            check.dtype("BpStdp", name, spikes.dtype, check.SPIKE_DTYPES)
            check.on_device("BpStdp", name, spikes, "the weights", self.model.weights[0].device)
            if spikes.shape != last[0].shape:
                raise ValueError(
                    f"BpStdp: {name} must hold steps of one shape, got {list(last[0].shape)} and {list(spikes.shape)}"
                )
        window = torch.stack(last)
        return window if window.dim() == 3 else window[:, None]
