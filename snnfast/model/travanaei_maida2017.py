"""The network of Tavanaei and Maida as n3ml's manual spells and calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .tavanaei_maida2017 import TavanaeiAndMaida2017


class TravanaeiAndMaida2017(TavanaeiAndMaida2017):
    """:class:`TavanaeiAndMaida2017` with n3ml's arguments and its ``reset_variables``.

    Args:
        num_classes: its ``out_features``.
        hidden_neurons: its ``hidden``.
        **network: its other arguments.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        hidden_neurons: int | Sequence[int] | None = None,
        **network: Any,
    ) -> None:
        if num_classes is not None:
            network["out_features"] = num_classes
        if hidden_neurons is not None:
            network["hidden"] = hidden_neurons
        super().__init__(**network)

    def reset_variables(self, u: bool = True, w: bool = True) -> None:
        """``reset()`` (``u``) and ``reset_parameters()`` (``w``)."""
        if u:
            self.reset()
        if w:
            self.reset_parameters()
