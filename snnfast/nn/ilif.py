"""The layer :class:`ILIF`: neurons with integer spikes, to be trained as they are and run as binary spikes."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from snnfast import check

from .equations import SpikeCount, ilif

__all__ = ["ILIF"]


class ILIF(ilif.layer):  # type: ignore[name-defined, misc]
    """Integer leaky integrate-and-fire neurons: the output of a step is a number of spikes, 0 to ``most``.

    ::

        h[t] = decay v[t-1] + x[t]
        s[t] = round(clamp(h[t] / v_threshold, 0, most))          half rounds to even
        v[t] = h[t] - s[t] v_threshold

    The gradient passes straight through: ``ds/dh = 1 / v_threshold`` for ``0 <= h <= most v_threshold``, else 0. At a
    single step this is the quantised activation ``round(clamp(x, 0, most))`` of spike-driven transformers and of
    SpikingBrain. :func:`snnfast.export.expand` makes a network with binary spikes of the trained one. SpikingJelly's
    ``ILIFNode`` is the same neuron, with ``decay = 1 - 1/tau``.

    The equation is compiled when it first runs (:func:`snnfast.neuron`).

    Args:
        most: largest number of spikes in a step, ``D`` of the papers.
        decay: decay of the membrane in a step; at a single step without effect.
        v_threshold: membrane of a spike; a number, a tensor (kept as a buffer) or an ``nn.Parameter`` (learned).
        detach_reset: no gradient through the spikes into the reset.
        stateful: keep the membrane between calls; see :class:`snnfast.nn.state.Stateful`.
        return_v_seq: return ``(spikes, v_seq)`` instead of ``spikes``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Example:
        >>> net = nn.Sequential(Time(nn.Linear(64, 100)), ILIF(4), Time(nn.Linear(100, 10)), Rate())
        >>> net(torch.rand(1, 8, 64)).shape
        torch.Size([8, 10])

    Source: Luo et al., Integer-valued training and spike-driven inference spiking neural network for high-performance
    and energy-efficient object detection, ECCV 2024.
    """

    surrogate: SpikeCount

    def __init__(
        self,
        most: int = 4,
        *,
        decay: float | Tensor = 0.25,
        v_threshold: float | Tensor = 1.0,
        detach_reset: bool = False,
        stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None:
        self.most = check.integer("ILIF", "most", most)
        super().__init__(
            decay=decay,
            v_threshold=v_threshold,
            v_reset=None,
            surrogate=SpikeCount(self.most, 0.0, float(self.most)),
            detach_reset=detach_reset,
            stateful=stateful,
            return_v_seq=return_v_seq,
        )

    def _shown(self) -> dict[str, Any]:
        flags = ("detach_reset", "stateful", "return_v_seq")
        shown = {name: getattr(self, name) for name in ("most", "decay", "v_threshold")}
        return shown | {name: True for name in flags if getattr(self, name)}


# The base has all arguments of a neuron; a count of spikes fixes most of them.
ILIF.__signature__ = inspect.Signature(list(inspect.signature(ILIF.__init__).parameters.values())[1:])
