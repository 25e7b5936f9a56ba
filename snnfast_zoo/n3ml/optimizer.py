"""Learning rules of :mod:`snnfast.learning` with the names and arguments of the optimizers in n3ml's manual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from snnfast.learning import BpStdp, SpikePropDescent
from snnfast_zoo.papers import Bohte2002

__all__ = ["Bohte", "TavanaeiAndMaida"]


class Bohte(SpikePropDescent):
    """:class:`snnfast.learning.SpikePropDescent` with n3ml's argument names."""

    def step(  # type: ignore[override]
        self, model: Bohte2002, spiked_input: Tensor, spiked_label: Tensor
    ) -> Tensor:
        """Make a step, with spike times of the inputs and target times of the outputs; see the base class."""
        return super().step(model, spiked_input, spiked_label)


class TavanaeiAndMaida(BpStdp):
    """:class:`snnfast.learning.BpStdp` with n3ml's argument names."""

    def step(  # type: ignore[override]
        self, spike_buffer: Mapping[str, Sequence[Tensor]], spiked_label: Tensor, label: int | Tensor
    ) -> None:
        """Make a step, with windows of the inputs under "inp" and of the layers under "fc1", "fc2", ...

        Raises:
            KeyError: a layer is missing in the buffer.
        """
        names = ["inp", *(f"fc{depth + 1}" for depth in range(len(self.model.layers)))]
        for name in names:
            if name not in spike_buffer:
                raise KeyError(f"TavanaeiAndMaida: spike_buffer must have {name!r}")
        super().step([spike_buffer[name] for name in names], spiked_label, label)
