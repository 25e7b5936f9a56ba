"""Residual network of Sengupta et al. 2019 for conversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast.check import integer, number, sizes
from snnfast.conversion import SpikingNetwork
from snnfast.conversion.stream import Encoder

MOST_BLOCKS = 10_000


class Block(nn.Module):
    """Residual block: two convolutions and a shortcut, added before a ReLU."""

    def __init__(self, channels: int, out: int, stride: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        same = channels == out and stride == 1
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm1 = norm(out)
        self.relu1 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = norm(out)
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)
        self.norm3 = nn.Identity() if same else norm(out)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, channels, H, W]`` to ``[B, out, H / stride, W / stride]``."""
        y: Tensor = self.dropout(self.relu1(self.norm1(self.conv1(x))))
        y = self.norm2(self.conv2(y))
        return self.relu2(y + self.norm3(self.shortcut(x)))  # type: ignore[no-any-return]


class ResNet20(nn.Module):
    """Residual network for CIFAR-10 as Sengupta et al. train it: no biases, no batch normalisation, dropout.

    Three convolutions 3x3 in place of the first one of He et al., each with a ReLU; three groups of ``blocks`` residual
    blocks with ``width``, 2 ``width``, 4 ``width`` channels, the later groups starting with stride 2; average pooling
    over the image; one fully connected layer. A ReLU follows every addition, so that the summands are spikes of neurons
    whose thresholds can be balanced together.

    Args:
        width: channels of the first group.
        blocks: residual blocks per group, at most 10,000.
        input_shape: channels, height and width of an image.
        num_classes: outputs.
        dropout: probability of dropout inside a block.
        batch_norm: batch normalisation after every convolution; the paper's network has none.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of another shape.

    Source: Sengupta, Ye, Wang, Liu, Roy, Going Deeper in Spiking Neural Networks: VGG and Residual Architectures,
    Frontiers in Neuroscience 13:95 (2019), section 3.4; He, Zhang, Ren, Sun, Deep Residual Learning, 2016.
    """

    def __init__(
        self,
        width: int = 16,
        blocks: int = 3,
        *,
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        dropout: float = 0.2,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_shape = sizes(name, "input_shape", input_shape, 3)
        integer(name, "width", width)
        if integer(name, "blocks", blocks) > MOST_BLOCKS:  # making more would take too long
            raise ValueError(f"{name}: blocks must be at most {MOST_BLOCKS}, got {blocks}")
        integer(name, "num_classes", num_classes)
        number(name, "dropout", dropout)
        stem: list[nn.Module] = []
        channels = self.input_shape[0]
        for _ in range(3):
            stem.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            stem += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = width
        self.stem = nn.Sequential(*stem)
        groups: list[nn.Module] = []
        for group in range(3):
            for block in range(blocks):
                out, stride = width << group, 2 if group and not block else 1
                groups.append(Block(channels, out, stride, dropout, batch_norm))
                channels = out
        self.groups = nn.Sequential(*groups)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes, bias=False)
        residual = (2 * len(groups)) ** -0.5
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if name.endswith("conv2") and not batch_norm:
                    # Without batch normalisation the variance would double at every addition.
                    module.weight.data.mul_(residual)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, *input_shape]`` to scores ``[B, num_classes]``."""
        x = self.pool(self.groups(self.stem(images)))
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


class SResNet20(SpikingNetwork):
    """:class:`ResNet20` with the same weights and integrate-and-fire neurons for ReLUs and on the output.

    It works as :class:`snnfast.papers.SVGG16`, except that a spike has the value of the threshold of its neuron. The
    paper balances the thresholds of neurons whose spikes are added, so that these spikes have equal values. In units of
    the activations they have, whatever the thresholds.

    Args:
        resnet20: the ReLU network, trained or not; it is copied.
        batch_size, threshold, reset, initial_membrane, encoding: see :class:`snnfast.papers.SVGG16`.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of wrong shape or range.
        RuntimeError: by ``forward`` before there are thresholds.

    Source: see :class:`ResNet20`.
    """

    def __init__(
        self,
        resnet20: nn.Module,
        batch_size: int | None = None,
        threshold: Sequence[float | Tensor] | None = None,
        *,
        reset: str = "soft",
        initial_membrane: float = 0.0,
        encoding: str | Encoder = "saturating",
    ) -> None:
        super().__init__(
            resnet20, reset=reset, initial_membrane=initial_membrane, encoding=encoding, spiking_output=True
        )
        self.batch_size = None if batch_size is None else integer("SResNet20", "batch_size", batch_size)
        if threshold is not None:
            self.update_threshold(threshold)
