"""Values to spike times of neurons with overlapping receptive fields."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from snnfast import check

from .latency import features, on_grid

CENTERS = {"paper": 1, "n3ml": 0}


class PopulationEncoder(nn.Module):
    """Population code of Bohte et al. 2002: each value becomes the spike times of ``m`` neurons.

    Neuron ``i`` of a feature has a Gaussian receptive field over the feature's range; the closer the
    value to its centre, the earlier it fires::

        mu[i] = min + (2 i - 3) / 2 (max - min) / (m - 2)        i = 1 ... m
        sigma = (max - min) / (beta (m - 2))
        a[i]  = exp(-(x - mu[i])^2 / (2 sigma^2))
        t[i]  = t_max (1 - a[i])   rounded to multiples of dt; silent if t[i] >= silent_from

    Not differentiable.

    Args:
        neurons: neurons a feature, m, at least 3.
        minimum: smallest value of each feature, ``[F]``, a tensor or numbers.
        maximum: largest value of each feature, above ``minimum``.
        t_max: time of a neuron that is not excited at all, in milliseconds.
        silent_from: neurons that would fire at this time or later are silent, in milliseconds.
        dt: times are multiples of it, in milliseconds (halves go to the even multiple), none of them later than
            ``t_max``; None does not round. n3ml takes this argument and always rounds to whole milliseconds,
            which ``dt=1`` does.
        beta: width of the fields: 1.5 in the paper.
        centers: ``"paper"``, or ``"n3ml"`` for ``i = 0 ... m - 1``, which shifts all fields down by one spacing, so
            that none lies above the range.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.

    Source: Bohte, Kok, La Poutre, Error-backpropagation in temporally encoded networks of spiking neurons,
    Neurocomputing 48 (2002), section 4.2.

    Example:
        >>> encoder = snnfast.encoder.PopulationEncoder(12, [4.3, 2.0], [7.9, 4.4], 10, 10)
        >>> encoder(torch.tensor([[5.1, 3.5]])).shape
        torch.Size([1, 2, 12])
    """

    def __init__(
        self,
        neurons: int,
        minimum: Tensor | Sequence[float],
        maximum: Tensor | Sequence[float],
        t_max: float,
        silent_from: float,
        dt: float | None = 1.0,
        beta: float = 1.5,
        *,
        centers: str = "paper",
    ) -> None:
        super().__init__()
        check.integer("PopulationEncoder", "neurons", neurons, 3)
        low, high = (
            features("PopulationEncoder", name, value) for name, value in (("minimum", minimum), ("maximum", maximum))
        )
        if low.dim() != 1 or low.shape != high.shape:
            raise ValueError(
                "PopulationEncoder: minimum and maximum must have one shape [F], "
                f"got {list(low.shape)} and {list(high.shape)}"
            )
        if not (low < high).all():
            f = int((~(low < high)).nonzero()[0])
            raise ValueError(
                f"PopulationEncoder: maximum must be above minimum, got {high[f]:g} and {low[f]:g} for feature {f}"
            )
        if centers not in CENTERS:
            raise ValueError(f"PopulationEncoder: centers must be one of {', '.join(CENTERS)}, got {centers!r}")
        self.neurons = neurons
        self.t_max = check.positive("PopulationEncoder", "t_max", t_max)
        self.silent_from = check.positive("PopulationEncoder", "silent_from", silent_from)
        self.dt = None if dt is None else check.positive("PopulationEncoder", "dt", dt)
        self.beta = check.positive("PopulationEncoder", "beta", beta)
        i = torch.arange(neurons, dtype=torch.float64) + CENTERS[centers]
        spacing = (high - low) / (neurons - 2)
        self.center: Tensor
        self.sigma: Tensor
        self.register_buffer("center", low[:, None] + (2 * i - 3) / 2 * spacing[:, None])
        self.register_buffer("sigma", spacing / self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """Values ``[..., F]`` -> spike times ``[..., F, neurons]`` in milliseconds, ``inf`` for silent neurons.

        float32, or float64 for float64 values.

        Raises:
            TypeError: if ``x`` is not a tensor of real numbers.
            ValueError: if its last dimension is not F, or a value is not finite.
        """
        x = features("PopulationEncoder", "x", x)
        if x.dim() == 0 or x.shape[-1] != len(self.center):
            raise ValueError(f"PopulationEncoder: x must have shape [..., {len(self.center)}], got {list(x.shape)}")
        a = ((x[..., None].double() - self.center) / self.sigma[:, None]).square().div(-2).exp()
        t = on_grid(self.t_max * (1 - a), self.dt, self.t_max)
        return t.masked_fill(t >= self.silent_from, torch.inf).to(x.dtype)

    def extra_repr(self) -> str:
        """Return the settings that ``print`` shows."""
        return (
            f"neurons={self.neurons}, features={len(self.center)}, t_max={self.t_max:g}, "
            f"silent_from={self.silent_from:g}, dt={self.dt}, beta={self.beta:g}"
        )
