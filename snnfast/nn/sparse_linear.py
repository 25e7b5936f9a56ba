"""A linear layer through sparse connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from snnfast import ops

from .synaptic import Synaptic

if TYPE_CHECKING:  # numpy, which it needs, is missing where the package is built
    from snnfast.connect import Connectivity

__all__ = ["SparseLinear"]


class SparseLinear(Synaptic):
    """Linear map through sparse connections: :func:`snnfast.ops.sparse_linear`.

    It stands where ``nn.Linear`` does, and needs no :class:`snnfast.nn.Time` around it. The time grows with the inputs
    that are not 0, so spikes are fast. The state dict has the weights and a fingerprint of the connectivity, not the
    connectivity itself.

    Args:
        connectivity: the synapses, of :mod:`snnfast.connect`, all with the delay of one step that is the default.
        weight: a number; a tensor ``[synapses]`` in the order of ``connectivity.edges()``, or ``[n_pre]``, one for each
            presynaptic neuron; or an ``nn.Parameter`` of such a shape, which is learned. None: a parameter, normal with
            a deviation of 1 over the root of the mean number of synapses of a postsynaptic neuron.

    Attributes:
        weight: the parameter, buffer or number.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Example:
        >>> c = snnfast.connect.fixed_indegree(700, 1000, indegree=50)
        >>> net = nn.Sequential(snnfast.nn.SparseLinear(c), snnfast.nn.LIF(tau=2.0))
        >>> net(torch.rand(25, 64, 700)).shape
        torch.Size([25, 64, 1000])
    """

    op = "sparse_linear"

    def __init__(self, connectivity: Connectivity, *, weight: float | Tensor | nn.Parameter | None = None) -> None:
        super().__init__()
        self._connect(connectivity, weight)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` ``[..., n_pre]`` -> ``[..., n_post]``, of the same dtype."""
        return ops.sparse_linear(x, self._weight_for(x), self.connectivity)
