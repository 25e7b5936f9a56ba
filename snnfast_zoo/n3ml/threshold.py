"""Thresholds of :mod:`snnfast.conversion` with the names and arguments of n3ml's manual."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from snnfast.conversion import SpikingNetwork, thresholds_from_activations, thresholds_from_currents

__all__ = ["activation_based", "spikenorm"]


def activation_based(train_loader: Iterable[Any], model: nn.Module, **options: Any) -> list[Tensor]:
    """Call :func:`snnfast.conversion.thresholds_from_activations` with ``train_loader`` as ``loader``."""
    return thresholds_from_activations(model, train_loader, **options)


def spikenorm(
    train_loader: Iterable[Any],
    encoder: Callable[[Tensor], Tensor] | None,
    model: SpikingNetwork,
    num_steps: int,
    scaling_factor: float = 1.0,
    **options: Any,
) -> list[Tensor]:
    """Spike-Norm: :func:`snnfast.conversion.thresholds_from_currents` with n3ml's order of arguments.

    ``model`` is passed as ``network``, ``train_loader`` as ``loader``, and ``encoder`` as ``encoding``.
    """
    return thresholds_from_currents(
        model, train_loader, num_steps, scaling_factor=scaling_factor, encoding=encoder, **options
    )
