"""ReLU networks of Diehl et al. 2015 for conversion, and their spiking counterparts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from snnfast.check import integer, number, sizes
from snnfast.conversion import SpikingNetwork
from snnfast.conversion.stream import Encoder


class Diehl2015(nn.Module):
    """ReLU network without biases, whose conversion only chooses thresholds.

    Without ``hidden`` it is the convolutional network of the paper, 28x28-12c5-2s-64c5-2s-10o::

        conv 12@5x5 - ReLU - dropout - avgpool 2 - conv 64@5x5 - ReLU - dropout - avgpool 2 - fc 10

    and with ``hidden`` the fully connected one: ``hidden=(1200, 1200)`` is the paper's 784-1200-1200-10.

    Args:
        input_shape: channels, height and width of an image.
        num_classes: outputs.
        hidden: sizes of the hidden layers of a fully connected network; None for the convolutional one.
        dropout: probability of dropout, in [0, 1).
        kernel_size: kernel size of both convolutions.
        padding: padding of both convolutions; ``kernel_size=3, padding=1`` suits the 8x8 digits in the package.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of another shape.

    Source: Diehl, Neil, Binas, Cook, Liu, Pfeiffer, Fast-Classifying, High-Accuracy Spiking Deep Networks Through
    Weight and Threshold Balancing, IJCNN 2015, section III.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        hidden: Sequence[int] | None = None,
        dropout: float = 0.5,
        kernel_size: int = 5,
        padding: int = 0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_shape = sizes(name, "input_shape", input_shape, 3)
        integer(name, "num_classes", num_classes)
        number(name, "dropout", dropout)
        integer(name, "kernel_size", kernel_size)
        integer(name, "padding", padding, least=0)
        if hidden is None:
            channels, height, width = self.input_shape
            for _ in range(2):
                height, width = ((s + 2 * padding - kernel_size + 1) // 2 for s in (height, width))
            if min(height, width) < 1:
                raise ValueError(
                    f"{name}: images of {self.input_shape[1]}x{self.input_shape[2]} are too small for two "
                    f"convolutions of {kernel_size}x{kernel_size} with padding {padding} and poolings by 2"
                )
            self.conv1 = nn.Conv2d(channels, 12, kernel_size, padding=padding, bias=False)
            self.relu1 = nn.ReLU()
            self.dropout1 = nn.Dropout(dropout)
            self.pool1 = nn.AvgPool2d(2)
            self.conv2 = nn.Conv2d(12, 64, kernel_size, padding=padding, bias=False)
            self.relu2 = nn.ReLU()
            self.dropout2 = nn.Dropout(dropout)
            self.pool2 = nn.AvgPool2d(2)
            self.flatten = nn.Flatten()
            self.fc1 = nn.Linear(64 * height * width, num_classes, bias=False)
        else:
            self.flatten = nn.Flatten()
            features = math.prod(self.input_shape)
            for i, size in enumerate(sizes(name, "hidden", hidden), 1):
                self.add_module(f"fc{i}", nn.Linear(features, size, bias=False))
                self.add_module(f"relu{i}", nn.ReLU())
                self.add_module(f"dropout{i}", nn.Dropout(dropout))
                features = size
            last = nn.Linear(features, num_classes, bias=False)
            self.add_module(f"fc{len(hidden) + 1}", last)

    @classmethod
    def preset(cls, dataset: str, **changes: Any) -> Diehl2015:
        """Return the network of docs/results.md for "digits" or "mnist", without dropout.

        Args:
            dataset: the name of the data set.
            **changes: other arguments of the class, such as ``hidden=(1200, 1200)`` for the fully connected network.
        """
        networks: dict[str, dict[str, Any]] = {
            "digits": {"input_shape": (1, 8, 8), "kernel_size": 3, "padding": 1},
            "mnist": {},
        }
        if dataset not in networks:
            raise ValueError(f"Diehl2015: dataset must be one of {', '.join(networks)}, got {dataset!r}")
        return cls(**{"dropout": 0.0, **networks[dataset], **changes})

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, *input_shape]`` to scores ``[B, num_classes]``."""
        for layer in self.children():
            images = layer(images)
        return images


class SNN_Diehl2015(SpikingNetwork):  # noqa: N801
    """:class:`Diehl2015` with the same weights and integrate-and-fire neurons for ReLUs and on the output.

    At every time step a pixel fires with its value as probability. A spike counts 1. A neuron that reaches its
    threshold fires and resets to 0. The result is the spike count of every output. Poolings have no neurons.

    Example:
        >>> snn = SNN_Diehl2015(batch_size=100)
        >>> snn.update_threshold([1.0, 1.0, 1.0])
        >>> snn(torch.rand(100, 1, 28, 28), num_steps=20).shape
        torch.Size([100, 10])

    Args:
        batch_size: ignored; accepted so that the manual's calls run.
        threshold: one per layer of neurons; see :func:`snnfast.conversion.thresholds_from_activations`. None: set them
            later.
        reset: "hard", as in the paper, or "soft".
        initial_membrane: membrane before the first step, as a part of the threshold, in [0, 1).
        encoding: "poisson" spikes, as in the paper, "constant" current, or a callable.
        **network: the arguments of :class:`Diehl2015`.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of wrong shape or range.
        RuntimeError: by ``forward`` before there are thresholds.

    Source: see :class:`Diehl2015`.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        threshold: Sequence[float | Tensor] | None = None,
        *,
        reset: str = "hard",
        initial_membrane: float = 0.0,
        encoding: str | Encoder = "poisson",
        **network: Any,
    ) -> None:
        super().__init__(
            Diehl2015(**network),
            reset=reset,
            initial_membrane=initial_membrane,
            encoding=encoding,
            unit_spikes=True,
            spiking_output=True,
        )
        self.batch_size = None if batch_size is None else integer("SNN_Diehl2015", "batch_size", batch_size)
        if threshold is not None:
            self.update_threshold(threshold)
