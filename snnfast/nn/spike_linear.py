"""A linear layer behind spiking ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.reference.spike_linear import METHODS, Method

__all__ = ["SpikeLinear"]


class SpikeLinear(nn.Linear):
    """:class:`torch.nn.Linear` for inputs that are mostly 0, such as spikes; :func:`snnfast.ops.spike_linear`.

    Parameters, their initial values, the state dict and, but for rounding, the result are those of ``nn.Linear``: to
    use it, replace the name. On the CPU it sums only the inputs that are not 0, if that is faster; on CUDA it is
    ``nn.Linear``.

    Args:
        in_features, out_features, bias, device, dtype: as those of ``nn.Linear``.
        method: ``"auto"``, ``"events"`` or ``"dense"``, as in :func:`snnfast.ops.spike_linear`.

    Example:
        >>> net = nn.Sequential(snnfast.nn.LIF(tau=2.0), snnfast.nn.SpikeLinear(784, 1000))
        >>> net(torch.rand(25, 64, 784)).shape
        torch.Size([25, 64, 1000])
    """

    op = "spike_linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        method: Method = "auto",
    ) -> None:
        check.choice("SpikeLinear", "method", method, METHODS)
        in_features = check.integer("SpikeLinear", "in_features", in_features, 0)
        out_features = check.integer("SpikeLinear", "out_features", out_features, 0)
        check.flag("SpikeLinear", "bias", bias)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.method: Method = method

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[..., in_features]`` -> ``[..., out_features]``; x in the dtype of the weights, or bool."""
        return ops.spike_linear(x, self.weight, self.bias, method=self.method)

    def extra_repr(self) -> str:
        """The sizes, and the method where it was chosen."""
        chosen = "" if self.method == "auto" else f", method={self.method!r}"
        return super().extra_repr() + chosen
