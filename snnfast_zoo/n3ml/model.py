"""Networks with the names and methods of n3ml's manual; see :mod:`snnfast.papers` for the originals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from snnfast_zoo import papers
from snnfast_zoo.papers import *  # noqa: F403

__all__ = ["TravanaeiAndMaida2017"]
__all__ += papers.__all__


class DiehlAndCook2015(papers.DiehlAndCook2015):  # type: ignore[no-redef]
    """:class:`snnfast.papers.DiehlAndCook2015` with the methods of the manual's STDP loop."""

    def init_param(self) -> None:
        """Call ``reset()``."""
        self.reset()

    def run(self, inputs: Mapping[str, Tensor]) -> None:
        """Call ``step(spikes)`` with ``{"inp": spikes}``."""
        if not isinstance(inputs, Mapping):
            raise TypeError(f"DiehlAndCook2015: run takes {{'inp': spikes}}, got {type(inputs).__name__}")
        if set(inputs) != {"inp"}:
            raise ValueError(f"DiehlAndCook2015: run takes {{'inp': spikes}}, got the names {sorted(inputs)}")
        self.step(inputs["inp"])

    def update(self) -> None:
        """Call ``learn()``."""
        self.learn()


class Bohte2002(papers.Bohte2002):  # type: ignore[no-redef]
    """:class:`snnfast.papers.Bohte2002` with the method of the manual's SpikeProp script."""

    def initialize(self, delay: bool = True) -> None:
        """Call ``draw_weights(0.02, 0.1)``, for n3ml's weights.

        ``delay`` is ignored: the delays are the paper's 1, 2, ..., 16 ms, while n3ml draws integers from 0 to 9, the
        same for all neurons and with repetitions. Without this call weights have both signs, which learns better; see
        :class:`snnfast.nn.SpikeProp` and :meth:`snnfast.papers.Bohte2002.calibrate`.
        """
        self.draw_weights(0.02, 0.1)


class TravanaeiAndMaida2017(papers.TavanaeiAndMaida2017):
    """:class:`TavanaeiAndMaida2017` with n3ml's arguments and its ``reset_variables``.

    Args:
        num_classes: ``out_features`` of the class.
        hidden_neurons: ``hidden`` of the class.
        **network: other arguments of the class.
    """

    def __init__(
        self, num_classes: int | None = None, hidden_neurons: int | Sequence[int] | None = None, **network: Any
    ) -> None:
        if num_classes is not None:
            network["out_features"] = num_classes
        if hidden_neurons is not None:
            network["hidden"] = hidden_neurons
        super().__init__(**network)

    def reset_variables(self, u: bool = True, w: bool = True) -> None:
        """Call ``reset()`` (``u``) and ``reset_parameters()`` (``w``)."""
        if u:
            self.reset()
        if w:
            self.reset_parameters()


def __dir__() -> list[str]:
    return __all__
