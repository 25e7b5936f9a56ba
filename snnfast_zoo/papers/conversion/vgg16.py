"""VGG networks without biases, after Sengupta et al. 2019, for conversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast.check import choice, integer, number, sizes
from snnfast.conversion import SpikingNetwork
from snnfast.conversion.stream import Encoder

PLAN = (64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512)
HIDDEN = (4096, 4096)


class VGG16(nn.Module):
    """VGG16 for CIFAR-10 as Sengupta et al. train it: no biases, average pooling, dropout; or a similar network.

    Thirteen convolutions 3x3 with padding 1, each followed by a ReLU, and by dropout 0.2 where no pooling comes next;
    four poolings by 2; then fully connected 2048-4096-4096-10 with dropout 0.5.

    Args:
        plan: channels of the convolutions in turn, "P" for a pooling by 2.
        hidden: sizes of the fully connected layers before the last.
        input_shape: channels, height and width of an image.
        num_classes: outputs.
        pooling: ``"average"``, or ``"max"``.
        batch_norm: batch normalisation after every convolution; the paper's networks have none.
        dropout: probabilities of dropout after convolutions and after fully connected layers.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of another shape.

    Source: Sengupta, Ye, Wang, Liu, Roy, Going Deeper in Spiking Neural Networks: VGG and Residual Architectures,
    Frontiers in Neuroscience 13:95 (2019), section 3; the initialisation is that of He et al. by fan-out.
    """

    def __init__(
        self,
        plan: Sequence[int | str] = PLAN,
        hidden: Sequence[int] = HIDDEN,
        *,
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        pooling: str = "average",
        batch_norm: bool = False,
        dropout: tuple[float, float] = (0.2, 0.5),
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.input_shape = sizes(name, "input_shape", input_shape, 3)
        integer(name, "num_classes", num_classes)
        if not isinstance(plan, Sequence):
            raise TypeError(f"{name}: plan must be a sequence, got {type(plan).__name__}")
        if not isinstance(dropout, Sequence) or len(dropout) != 2:
            raise TypeError(f"{name}: dropout must be two numbers, got {dropout!r}")
        for value in dropout:
            number(name, "dropout", value)
        choice(name, "pooling", pooling, ("average", "max"))
        pool = nn.AvgPool2d if pooling == "average" else nn.MaxPool2d
        channels, height, width = self.input_shape
        layers: list[nn.Module] = []
        for i, entry in enumerate(plan):
            if entry == "P":
                layers.append(pool(2))
                height, width = height // 2, width // 2
                continue
            out = integer(name, "plan", entry)
            layers.append(nn.Conv2d(channels, out, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(out)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            if i + 1 < len(plan) and plan[i + 1] != "P":
                layers.append(nn.Dropout(dropout[0]))
            channels = out
        if min(height, width) < 1:
            raise ValueError(
                f"{name}: images of {self.input_shape[1]}x{self.input_shape[2]} are too small for "
                f"{list(plan).count('P')} poolings by 2"
            )
        self.features = nn.Sequential(*layers)
        features, layers = channels * height * width, []
        for size in sizes(name, "hidden", hidden):
            layers += [nn.Linear(features, size, bias=False), nn.ReLU(inplace=True)]
            layers.append(nn.Dropout(dropout[1]))
            features = size
        self.classifier = nn.Sequential(*layers, nn.Linear(features, num_classes, bias=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, *input_shape]`` to scores ``[B, num_classes]``."""
        return self.classifier(torch.flatten(self.features(images), 1))  # type: ignore[no-any-return]


class SVGG16(SpikingNetwork):
    """:class:`VGG16` with the same weights and integrate-and-fire neurons for ReLUs and on the output.

    At every time step a value of an image fires with its magnitude as probability, and the spike has its sign. Values
    beyond 1, as in normalised images, fire at every step. A spike counts 1. A neuron that reaches its threshold fires
    and subtracts it. The result is the spike count of every output. Poolings have no neurons.

    Args:
        vgg16: the ReLU network, trained or not; it is copied.
        batch_size: ignored; accepted so that the manual's calls run.
        threshold: one per layer of neurons; see :func:`snnfast.conversion.thresholds_from_currents`. None: set them
            later.
        reset: "soft", as in n3ml, or "hard", as in the paper.
        initial_membrane: membrane before the first step, as a part of the threshold, in [0, 1).
        encoding: "saturating" spikes, as above; "poisson", where values beyond 1 are an error; "constant"
            current; or a callable.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of wrong shape or range.
        RuntimeError: by ``forward`` before there are thresholds.

    Source: see :class:`VGG16`.
    """

    def __init__(
        self,
        vgg16: nn.Module,
        batch_size: int | None = None,
        threshold: Sequence[float | Tensor] | None = None,
        *,
        reset: str = "soft",
        initial_membrane: float = 0.0,
        encoding: str | Encoder = "saturating",
    ) -> None:
        super().__init__(
            vgg16,
            reset=reset,
            initial_membrane=initial_membrane,
            encoding=encoding,
            unit_spikes=True,
            spiking_output=True,
        )
        self.batch_size = None if batch_size is None else integer("SVGG16", "batch_size", batch_size)
        if threshold is not None:
            self.update_threshold(threshold)
