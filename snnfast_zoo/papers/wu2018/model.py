"""Network of Wu et al. 2018, trained by spatio-temporal backpropagation (STBP)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from snnfast import check, ops
from snnfast.nn import LIF, Rate, SpikeLinear, Time

ENCODINGS = ("bernoulli", "direct")


class Wu2018(nn.Module):
    """Spiking network for images, trained by backpropagation through space and time.

    Without ``hidden`` it is the network of the paper's code, for 28x28 images::

        conv 32@3x3 - LIF - avgpool 2 - conv 32@3x3 - LIF - avgpool 2 - fc 128 - LIF - fc 10 - LIF

    and with ``hidden`` the fully connected one: ``hidden=(800,)`` is the paper's 784-800-10. Every neuron follows::

        u[t] = 0.2 u[t-1] (1 - s[t-1]) + I[t]        s[t] = 1 if u[t] >= 0.5 else 0

    and ``ds/du = 1 where |u - 0.5| < 0.5, else 0`` (the paper's rectangle h1 of width 1); the reset is differentiated,
    as in the paper. The paper writes ``u > 0.5``: the two differ only where ``u`` is exactly 0.5.

    Example:
        >>> net = Wu2018(num_steps=5)
        >>> net(torch.rand(64, 1, 28, 28)).shape
        torch.Size([64, 10])

    Args:
        num_steps: steps per image, at least 1.
        input_shape: channels, height and width of an image; ``(1, 8, 8)`` for the digits in the package.
        num_classes: outputs.
        hidden: sizes of the hidden layers of a fully connected network; None for the convolutional one.
        width: factor on the channels (32) and hidden neurons (128) of the convolutional network.
        voters: output neurons per class; the rate of a class is their mean. A neuron has ``num_steps + 1`` rates,
            so that classes may tie; the paper's network has one.
        encoding: ``"bernoulli"``: at every step a pixel fires with its value as probability (``x > U``, as in the
            paper's code; a value of 1 or more always fires, so images scaled by 32 run as in the manual).
            ``"direct"``: the pixel itself is the input current of every step; the first layer is then computed once
            for all steps.
        batch_norm: batch normalisation over images and steps before all neurons; the paper's network has none.
        batch_size: ignored; accepted so that the manual's calls run.
        time_interval: ``num_steps`` in the manual.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; by ``forward`` for images of another shape.

    Source: Wu, Deng, Li, Zhu, Shi, Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural
    Networks, Frontiers in Neuroscience 12:331 (2018), equations 11-25, and the code the authors released for MNIST.
    """

    def __init__(
        self,
        num_steps: int = 5,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        hidden: Sequence[int] | None = None,
        width: float = 1.0,
        voters: int = 1,
        encoding: str = "bernoulli",
        batch_norm: bool = False,
        batch_size: int | None = None,
        time_interval: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None:
            check.integer("Wu2018", "batch_size", batch_size)
        self.batch_size = batch_size
        self.num_steps = check.integer("Wu2018", "num_steps", num_steps)
        if time_interval is not None:
            self.num_steps = check.integer("Wu2018", "time_interval", time_interval)
        self.input_shape = check.sizes("Wu2018", "input_shape", input_shape, 3)
        self.voters = check.integer("Wu2018", "voters", voters)
        outputs = check.integer("Wu2018", "num_classes", num_classes) * self.voters
        if encoding not in ENCODINGS:
            raise ValueError(f"Wu2018: encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
        self.encoding = encoding
        check.positive("Wu2018", "width", width)
        if hidden is None:
            synapses = _convolutional(self.input_shape, outputs, width)
        elif width != 1:
            raise ValueError(f"Wu2018: width is for the network without hidden, got {width:g}")
        else:
            sizes = check.sizes("Wu2018", "hidden", hidden)
            synapses = _fully_connected(self.input_shape, sizes, outputs)
        layers: list[nn.Module] = []
        for synapse in synapses:
            norms = [_norm(synapse[-1])] if batch_norm else []
            layers += [Time(*synapse, *norms), _neurons()]
        self.layers = nn.Sequential(*layers)
        self.rate = Rate()

    @classmethod
    def preset(cls, dataset: str, *, hidden: Sequence[int] | None = None, **changes: Any) -> Wu2018:
        """Return the network of docs/results.md for "digits" or "mnist", convolutional or with ``hidden`` layers.

        Args:
            dataset: the name of the data set.
            hidden: as in the class.
            **changes: other arguments of the class.
        """
        return cls(**{**preset(dataset, hidden), **changes})

    def forward(self, images: Tensor, num_steps: int | None = None) -> Tensor:
        """Return the firing rates of the outputs.

        Args:
            images: ``[B, *input_shape]``, floating point, pixels usually in [0, 1]; or frames of events
                ``[B, T, *input_shape]``, each the input current of its step. They may be on another device than the
                network, as in the manual, whose script moves only the network to the GPU.
            num_steps: number of steps, at least 1; None: that of the network. Frames determine it themselves.

        Returns:
            Spikes per step of every class, ``[B, num_classes]``, float32 (float64 for float64 images), in [0, 1],
            on the device of ``images``.
        """
        check.tensor("Wu2018", "images", images)
        device = next(self.parameters()).device
        rates: Tensor = self.rate(self.spikes(images.to(device), num_steps))
        return F.avg_pool1d(rates.unsqueeze(1), self.voters).squeeze(1).to(images.device)

    def spikes(self, images: Tensor, num_steps: int | None = None) -> Tensor:
        """Return the spikes of the outputs ``[T, B, num_classes * voters]``, on the device of the network."""
        frames = images.dim() == 5
        if images.dim() not in (4, 5) or tuple(images.shape[-3:]) != self.input_shape:
            wanted = ", ".join(map(str, ("B", *"T" * frames, *self.input_shape)))
            raise ValueError(f"Wu2018: images must have shape [{wanted}], got {list(images.shape)}")
        if not images.is_floating_point():
            raise TypeError(f"Wu2018: images must be floating point, got {images.dtype}")
        T = self.num_steps if num_steps is None else check.integer("Wu2018", "num_steps", num_steps)
        if frames:
            x = images.transpose(0, 1)
        elif self.encoding == "bernoulli":
            # No validation: values above 1 always fire, values below 0 never, and a check would make a GPU wait.
            x = ops.poisson(images, T, dtype=images.dtype, validate=False)
        else:
            x = images.expand(T, *images.shape)
        spikes: Tensor = self.layers(x)
        # Counting up to T in bfloat16 would round.
        return spikes if spikes.dtype == torch.float64 else spikes.float()

    def extra_repr(self) -> str:
        """Return the settings that the layers do not show."""
        return f"num_steps={self.num_steps}, encoding={self.encoding!r}"


def preset(dataset: str, hidden: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the arguments of the network of docs/results.md for a data set."""
    shapes = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}
    if dataset not in shapes:
        raise ValueError(
            f"Wu2018: dataset must be one of {', '.join(shapes)}, got {dataset!r}; give the arguments themselves"
        )
    convolutions_of_mnist = dataset == "mnist" and hidden is None
    return {
        "input_shape": shapes[dataset],
        "hidden": hidden,
        "num_steps": 5 if convolutions_of_mnist else 8,
        "encoding": "direct",
        "batch_norm": dataset == "mnist",
    }


def _neurons() -> LIF:
    return LIF(decay=0.2, decay_input=False, v_threshold=0.5, v_reset=0.0, surrogate="rectangle")


def _convolutional(input_shape: Sequence[int], outputs: int, factor: float) -> list[list[nn.Module]]:
    channels, height, width = input_shape
    if min(height, width) < 4:
        raise ValueError(f"Wu2018: two poolings by 2 need images of 4x4, got {height}x{width}")
    maps, neurons = (max(1, round(factor * size)) for size in (32, 128))
    features = maps * (height // 4) * (width // 4)
    return [
        [nn.Conv2d(channels, maps, 3, padding=1)],
        [nn.AvgPool2d(2), nn.Conv2d(maps, maps, 3, padding=1)],
        [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(features, neurons)],
        [nn.Linear(neurons, outputs)],
    ]


def _fully_connected(input_shape: Sequence[int], hidden: Sequence[int], outputs: int) -> list[list[nn.Module]]:
    sizes = [math.prod(input_shape), *hidden, outputs]
    synapses: list[list[nn.Module]] = [[SpikeLinear(*pair)] for pair in pairwise(sizes)]
    synapses[0].insert(0, nn.Flatten())
    return synapses


def _norm(synapse: nn.Module) -> nn.Module:
    if isinstance(synapse, nn.Conv2d):
        return nn.BatchNorm2d(synapse.out_channels)
    return nn.BatchNorm1d(cast(nn.Linear, synapse).out_features)
