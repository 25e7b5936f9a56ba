"""Base of the layers with sparse connections: weights of the synapses, and whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snnfast import check

from .spiking import show

if TYPE_CHECKING:  # numpy, which it needs, is missing where the package is built
    from snnfast.connect import Connectivity

__all__ = ["Synaptic"]


class Synaptic(nn.Module):
    """Base of the layers with sparse connections.

    The state dict has the weights and a fingerprint of the connectivity, not the connectivity itself.

    Attributes:
        connectivity: the synapses.
        weight: their weights: a parameter, a buffer or a number.
        fingerprint: numbers that tell connectivities apart.
    """

    connectivity: Connectivity
    weight: Any
    fingerprint: Tensor

    def _connect(self, connectivity: Connectivity, weight: float | Tensor | None) -> None:
        """Check and set the synapses and their weights; None: a parameter."""
        from snnfast import connect

        layer, c = type(self).__name__, connectivity
        if not isinstance(c, connect.Connectivity):
            raise TypeError(
                f"{layer}: connectivity must be a Connectivity, made by snnfast.connect, got {check.kind(connectivity)}"
            )
        self.connectivity = c
        if weight is None:
            dtype = check.state_dtype(torch.get_default_dtype())
            weight = nn.Parameter(torch.randn(len(c), dtype=dtype) / max(len(c) / max(c.n_post, 1), 1) ** 0.5)
        if not isinstance(weight, Tensor):
            self.weight = check.number(layer, "weight", weight)
        else:
            check.shape(layer, "weight", weight, (len(c),), (c.n_pre,))
            if isinstance(weight, nn.Parameter):
                self.register_parameter("weight", weight)
            else:
                dtype = check.state_dtype(weight.dtype)
                self.register_buffer("weight", weight.detach().to(dtype, copy=True))
        self.register_buffer("fingerprint", _fingerprint(c))

    def _weight_for(self, x: Tensor) -> Any:
        """Return the weights as the op takes them for ``x``."""
        return self.weight.to(check.state_dtype(x.dtype)) if isinstance(self.weight, Tensor) else self.weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        saved = state_dict.get(f"{prefix}fingerprint")
        if isinstance(saved, Tensor) and saved.tolist() != self.fingerprint.tolist():
            *_, errors = arguments
            errors.append(
                f"{type(self).__name__}: {prefix}weight belongs to another connectivity, {saved[1]} synapses of "
                f"{saved[0]} neurons; make the layer with that one"
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Return the layer's own settings; tensors by their shape."""
        return show({"connectivity": self.connectivity, "weight": self.weight})


def _fingerprint(c: Connectivity) -> Tensor:
    """Return neurons, synapses, and sums that depend on the order of targets and delays."""
    place = torch.arange(1, len(c) + 1)
    sums = [(place * (values + 1)).sum() for values in (c.targets.long(), c.delays(), c.edges()[0])]
    return torch.stack([torch.tensor(c.n_pre), torch.tensor(len(c)), *sums])
