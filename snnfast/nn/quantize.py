"""Training with weights of few bits: :func:`quantize`."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snnfast import check

from .graph import LayerGraph
from .hooks import refuse_own_forward
from .recurrent import Recurrent
from .sparse_linear import SparseLinear
from .sparse_recurrent import SparseRecurrent
from .state import without_graphs

__all__ = ["Quantized", "quantize"]

MOST = {"int8": 127, "int4": 7}  # the largest q
SCALES = ("free", "power-of-two")
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Recurrent)
# Scales tried for the smallest error, relative to the scale that puts the largest weight at the end of the range.
_PARTS = torch.linspace(0.3, 1.0, 36, dtype=torch.float64)


class Quantized(nn.Module):
    """Parametrisation of a weight as ``scale q`` with integers ``q``; see :func:`quantize`.

    Attributes:
        log2_scale: logarithm of ``scale``, ``[O, 1, ...]`` or ``[1, 1, ...]``; learned.
        most: the largest magnitude of ``q``.
    """

    def __init__(self, weight: Tensor, most: int, per_channel: bool, power_of_two: bool) -> None:
        super().__init__()
        self.most, self.power_of_two = most, power_of_two
        rows = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)
        scale = _best_scale(rows.double(), most).to(weight.dtype)
        self.log2_scale = nn.Parameter(scale.log2().view(-1, *(1,) * (weight.dim() - 1)))
        self._share = (most * rows.shape[1]) ** -0.5

    @property
    def scale(self) -> Tensor:
        """The distance of two neighbours of the grid."""
        exponent: Tensor = self.log2_scale
        if self.power_of_two:
            exponent = exponent + (exponent.round() - exponent).detach()
        return exponent.exp2()

    def on_grid(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``q``, shaped like ``weight``, and the scale of each output ``[O]``."""
        scale = self.scale.detach()
        q = (weight.detach() / scale).round().clamp(-self.most, self.most)
        return q, scale.flatten().expand(len(weight)).clone()

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` -> ``scale q``."""
        scale = self.scale
        if scale.requires_grad:
            scale.register_hook(lambda grad: grad * self._share)
        u = (weight / scale).clamp(-self.most, self.most)
        return (u + (u.round() - u).detach()) * scale  # exact: u and its nearest integer are close

    def extra_repr(self) -> str:
        """The range of ``q``."""
        return f"q from {-self.most} to {self.most}" + ", scale a power of two" * self.power_of_two


def quantize(net: nn.Module, weights: str = "int8", *, per_channel: bool = True, scale: str = "free") -> nn.Module:
    """A copy of a network whose weights are integers of few bits, to be trained on (quantisation-aware training).

    Every weight of a linear layer, a convolution or recurrent connections becomes::

        q = clamp(round(weight / scale), -most, most)        most: 127 for int8, 7 for int4
        scale q                                              is what the layer multiplies by

    ``scale`` is learned, too, as its logarithm, by the gradient of learned step sizes (Esser et al., Learned step size
    quantization, ICLR 2020); the gradient of ``weight`` is that of ``scale q`` where ``weight`` is within the range,
    else 0::

        d(scale q)/dscale = q - weight / scale               within the range, else -most or most

    and is scaled by ``1 / sqrt(most n)`` for the ``n`` weights of a scale, as in the paper. ``scale`` begins where the
    squared error of the weights is smallest. Biases, neurons and activations stay in floating point.

    Batch normalisations with running statistics are folded first, as by :func:`snnfast.nn.fuse`, so train the network
    before. The copy is a network like any other, for optimizers, checkpoints and :func:`snnfast.export_c`, which writes
    the ``q`` as they are: its program has exactly the weights that were trained.

    Args:
        net: the network; it is not changed.
        weights: ``"int8"`` or ``"int4"``.
        per_channel: a scale for each output, or one for all.
        scale: ``"free"``, or ``"power-of-two"``: products with it are shifts.

    Returns:
        The copy, with its own parameters: give these to the optimizer.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, and by name for a batch normalisation that cannot
            be folded, a weight that is parametrised or shared by two layers, a transposed convolution, a layer with
            sparse connections, and a network without such weights.

    Example:
        >>> small = snnfast.nn.quantize(net, "int4")
        >>> optimizer = torch.optim.Adam(small.parameters(), 1e-3)     # train on for some epochs, then:
        >>> snnfast.export_c(small, "firmware")
    """
    check.module("quantize", "net", net)
    check.choice("quantize", "weights", weights, tuple(MOST))
    check.choice("quantize", "scale", scale, SCALES)
    check.flag("quantize", "per_channel", per_channel)
    refuse_own_forward("quantize", net)
    quantized = copy.deepcopy(net, without_graphs(net))
    names = {module: name or "net" for name, module in quantized.named_modules()}
    _, stays = LayerGraph.trace(quantized).fold()
    for norm, why in stays.items():
        raise ValueError(
            f"quantize: {names[norm]}, a {type(norm).__name__}, cannot be folded: {why}; leave it out of net"
        )
    products = {name or "net": m for name, m in quantized.named_modules() if _has_weight(name, m)}
    shared = Counter(product.weight for product in products.values())
    for name, product in products.items():
        subject = f"quantize: the weight of {name}, a {type(product).__name__},"
        if parametrize.is_parametrized(product) or not isinstance(product.weight, nn.Parameter):
            raise ValueError(f"{subject} is parametrised or pruned already; make it plain first")
        if shared[product.weight] > 1:
            raise ValueError(f"{subject} is that of another layer, too; give each its own")
        if not bool(product.weight.isfinite().all()):
            raise ValueError(f"{subject} is not finite")
        grid = Quantized(product.weight, MOST[weights], per_channel, scale == "power-of-two")
        parametrize.register_parametrization(product, "weight", grid)
    if not products:
        raise ValueError("quantize: net has no linear layer, convolution or recurrent connections")
    return quantized


def _has_weight(name: str, module: Any) -> bool:
    if isinstance(module, (nn.modules.conv._ConvTransposeNd, SparseLinear, SparseRecurrent)):
        raise ValueError(f"quantize: {name or 'net'}, a {type(module).__name__}, is not supported")
    return isinstance(module, PRODUCTS) and module.weight.numel() > 0


def _best_scale(rows: Tensor, most: int) -> Tensor:
    """Return the scale of each row with the smallest squared error."""
    end = rows.abs().amax(1)
    scales = torch.where(end > 0, end, 1.0)[:, None] / most * _PARTS.to(rows.device)
    errors = [((rows / s).round().clamp(-most, most) * s - rows).square().sum(1) for s in scales.split(1, 1)]
    return scales.gather(1, torch.stack(errors, 1).argmin(1, keepdim=True))
