"""Shared style of all figures, and checks of their data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor

Array = npt.NDArray[np.float64]
Values = Tensor | npt.ArrayLike

# The palette of Okabe and Ito, distinguishable with every common colour blindness.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
COLORS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def finite_array(function: str, argument: str, value: Any) -> Array:
    """Return ``value`` as finite, non-empty float64."""
    array = filled_array(function, argument, value)
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{function}: {argument} must be finite, got {array[tuple(where)]} at index {where.tolist()}")
    return array


def of_sample(function: str, argument: str, value: Any, sample: int) -> Array:
    """Return values over time, [T, N], of ``value`` [T, N], or [T, B, ...], of which one sample is flattened."""
    array = finite_array(function, argument, value)
    if array.ndim < 2:
        raise ValueError(f"{function}: {argument} must have shape [T, N] or [T, B, ...], got {list(array.shape)}")
    if array.ndim == 2:
        return array
    if not 0 <= sample < array.shape[1]:
        raise ValueError(f"{function}: sample must lie in [0, {array.shape[1]}), the batch, got {sample}")
    flat: Array = array[:, sample].reshape(len(array), -1)
    return flat


def filled_array(function: str, argument: str, value: Any) -> Array:
    """Return ``value`` as non-empty float64, which may contain inf and NaN."""
    if isinstance(value, Tensor):
        value = value.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{function}: {argument} must hold numbers in one shape, got {type(value).__name__}") from None
    if array.size == 0:
        raise ValueError(f"{function}: {argument} must not be empty, got shape {list(array.shape)}")
    return array


def new_figure(width: float, height: float, *, fixed_aspect: bool = False) -> Figure:
    """Return an empty figure, with sizes in inches; ``fixed_aspect`` is for axes with an image."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07, compress=fixed_aspect)
    return Figure(figsize=(width, height), layout=layout)


def titled(title: object) -> bool:
    """Require a string or None; return whether there is a title."""
    if not isinstance(title, (str, type(None))):
        raise TypeError(f"title must be a string or None, got {type(title).__name__}")
    return bool(title)


def label_axes(ax: Axes, x: str | None, y: str, title: str | None) -> None:
    """Label the axes, and remove spines without information."""
    if x is not None:
        ax.set_xlabel(x)
    ax.set_ylabel(y)
    if titled(title):
        ax.set_title(title or "", fontsize=11, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)


def whole_ticks(axis: Axis, most: int | Literal["auto"] = "auto") -> None:
    """Set ticks at whole numbers only, at most ``most``."""
    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))


def head(figure: Figure, title: str | None) -> None:
    """Add a title to a figure of several axes."""
    if titled(title):
        figure.suptitle(title or "", fontsize=11, x=0.015, ha="left")
