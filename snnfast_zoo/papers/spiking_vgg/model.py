"""A spiking VGG with batch norm for direct training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast.check import integer, sizes
from snnfast.nn import LIF, SpikeConv2d, Time

PLAN = (64, 64, "P", 128, 128, "P", 256, 256)


class SpikingVGG(nn.Module):
    """Convolutions with batch norm and LIF neurons, trained by surrogate gradients over all time steps.

    Convolutions 3x3 with padding 1 and no bias, each followed by batch normalisation over images and steps and by LIF
    neurons; average poolings by 2 in between; then the average over the image, and a fully connected layer. The image
    is the input current of every step: the first layer is computed once, and its neurons emit the spikes. A score is
    the mean of the output current over the steps. Neurons follow::

        h[t] = v[t-1] / 2 + x[t]        s[t] = 1 if h[t] >= 1 else 0        v[t] = 0 where s[t] = 1, else h[t]

    with the arctangent's surrogate gradient, the reset not differentiated.

    Example:
        >>> net = SpikingVGG((8, "P", 16), num_steps=4)
        >>> net(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Args:
        plan: channels of the convolutions in turn, "P" for a pooling by 2.
        num_steps: steps per image, at least 1.
        input_shape: channels, height and width of an image.
        num_classes: outputs.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of another shape.

    Source: Wu, Deng, Li, Zhu, Xie, Shi, Direct Training for Spiking Neural Networks: Faster, Larger, Better, AAAI 2019
    (a first layer that encodes, batch statistics over steps); the surrogate is that of Fang et al., ICCV 2021.
    """

    def __init__(
        self,
        plan: Sequence[int | str] = PLAN,
        num_steps: int = 4,
        *,
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_steps = integer(name, "num_steps", num_steps)
        self.input_shape = sizes(name, "input_shape", input_shape, 3)
        integer(name, "num_classes", num_classes)
        if not isinstance(plan, Sequence):
            raise TypeError(f"{name}: plan must be a sequence, got {type(plan).__name__}")
        channels, *image = self.input_shape
        if min(image) >> list(plan).count("P") < 1:
            raise ValueError(
                f"{name}: images of {image[0]}x{image[1]} are too small for {list(plan).count('P')} poolings by 2"
            )
        layers: list[nn.Module] = []
        pools: list[nn.Module] = []
        for entry in plan:
            if entry == "P":
                pools.append(nn.AvgPool2d(2))
                continue
            out = integer(name, "plan", entry)
            # the input of the first convolution is no spikes
            kind = SpikeConv2d if layers else nn.Conv2d
            convolution = kind(channels, out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers.append(Time(*pools, convolution, nn.BatchNorm2d(out)))
            layers.append(LIF(tau=2.0, decay_input=False, v_reset=0.0, surrogate="atan", detach_reset=True))
            channels, pools = out, []
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
        self.layers = nn.Sequential(*layers, Time(*pools, *head))

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, *input_shape]`` to scores ``[B, num_classes]``."""
        if images.shape[1:] != torch.Size(self.input_shape):
            raise ValueError(
                f"SpikingVGG: images must have shape [B, {', '.join(map(str, self.input_shape))}], got "
                f"{list(images.shape)}"
            )
        currents: Tensor = self.layers(images.expand(self.num_steps, *images.shape))
        return currents.mean(0)

    def extra_repr(self) -> str:
        """Return the settings that the layers do not show."""
        return f"num_steps={self.num_steps}"
