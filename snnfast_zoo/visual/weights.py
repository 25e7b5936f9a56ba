"""Figures of learned input weights, as images."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from .style import Array, Values, finite_array, new_figure


def receptive_fields(
    w: Values,
    *,
    shape: tuple[int, int] | None = None,
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Tile the input weights of many neurons as images, in one colour scale.

    Args:
        w: Weights [n, pixels] or [n, H, W]: one row per neuron, as ``nn.Linear.weight``.
        shape: (H, W) of [n, pixels]; default the square root of pixels.
        columns: Number of tiles in a row; by default the picture is nearly square.
        limits: Weights at both ends of the colour scale; default the smallest and the largest, and
            for weights of both signs symmetric about 0.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: Wrong dimensions, empty, non-finite, pixels that do not make ``shape`` or a
            square, ``columns`` below 1, or ``limits`` that do not rise.
    """
    values = finite_array("receptive_fields", "w", w)
    if values.ndim not in (2, 3):
        raise ValueError(f"receptive_fields: w must have shape [n, pixels] or [n, H, W], got {list(values.shape)}")
    if values.ndim == 2:
        values = values.reshape(len(values), *_tile_shape("receptive_fields", values.shape[1], shape))
    elif shape is not None and tuple(shape) != values.shape[1:]:
        raise ValueError(f"receptive_fields: shape must be that of w, {list(values.shape[1:])}, got {list(shape)}")
    if columns is not None and columns < 1:
        raise ValueError(f"receptive_fields: columns must be at least 1, got {columns}")
    neurons, height, width = values.shape
    columns = min(columns or math.ceil(math.sqrt(neurons * height / width)), neurons)
    rows = math.ceil(neurons / columns)
    canvas = _mosaic(values, columns)

    signed = values.min() < 0 < values.max()
    if limits is None:
        bound = float(np.abs(values).max())
        limits = (-bound, bound) if signed else (float(values.min()), float(values.max()))
    elif not limits[0] < limits[1]:
        raise ValueError(f"receptive_fields: limits must rise, got {limits}")
    map_name = "RdBu_r" if limits[0] < 0 < limits[1] else "viridis"
    colormap = matplotlib.colormaps[map_name].with_extremes(bad="white")

    side = min(6.0, 1.4 * max(rows, columns))
    aspect = canvas.shape[0] / canvas.shape[1]
    figure = new_figure(
        min(max(side / max(aspect, 1), 2.2), side) + 0.9,
        min(max(side * min(aspect, 1), 1.2), side) + (0.4 if title else 0.1),
        fixed_aspect=True,
    )
    ax = figure.add_subplot()
    image = ax.imshow(canvas, cmap=colormap, norm=Normalize(*limits), interpolation="nearest")
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=11, loc="left")
    bar = figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    bar.set_label("Weight")
    bar.outline.set_visible(False)
    return figure


def show_weights(fig: Figure | None, mat: AxesImage | None, w: Values) -> tuple[Figure | None, AxesImage | None]:
    """Show the input weights of neurons in a window, and update it.

    ``fig, mat = show_weights(fig, mat, w)`` with None for both at first; later calls redraw the same window. Without a
    display nothing is shown; :class:`snnfast.visual.Live` also writes a file.

    Args:
        fig: Figure that the last call returned, or None.
        mat: Image that the last call returned, or None.
        w: Weights [n, pixels] of any number of neurons; pixels must be a square number.

    Returns:
        Figure and image, to pass to the next call.

    Raises:
        ValueError: See ``receptive_fields``.
    """
    # Imported here, since only windows need pyplot.
    from matplotlib import pyplot

    values = finite_array("show_weights", "w", w)
    if values.ndim != 2:
        raise ValueError(f"show_weights: w must have shape [n, pixels], got {list(values.shape)}")
    tiles = values.reshape(len(values), *_tile_shape("show_weights", values.shape[1], None))
    canvas = _mosaic(tiles, math.ceil(math.sqrt(len(tiles))))
    if fig is None or mat is None:
        fig = pyplot.figure(figsize=(6, 6))
        ax = fig.add_subplot()
        ax.set_axis_off()
        mat = ax.imshow(canvas, cmap="viridis", interpolation="nearest")
        fig.colorbar(mat, ax=ax, label="Weight")
        pyplot.show(block=False)
    elif pyplot.fignum_exists(fig.number):
        mat.set_data(canvas)
    else:
        return fig, mat  # the window was closed; training continues
    mat.set_clim(float(values.min()), float(values.max()))
    fig.canvas.draw_idle()
    fig.canvas.flush_events()
    return fig, mat


def _mosaic(tiles: Array, columns: int) -> Array:
    """Arrange tiles [n, H, W] in a grid, with NaN between them."""
    neurons, height, width = tiles.shape
    rows = math.ceil(neurons / columns)
    gap = 1 if max(height, width) < 40 else 2
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for neuron, tile in enumerate(tiles):
        top, left = neuron // columns * (height + gap), neuron % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _tile_shape(function: str, pixels: int, shape: tuple[int, int] | None) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(pixels)
        if side * side != pixels:
            raise ValueError(f"{function}: w with {pixels} pixels a neuron is not square; give shape=(H, W)")
        return side, side
    if len(shape) != 2 or shape[0] * shape[1] != pixels:
        raise ValueError(f"{function}: shape must be (H, W) with H * W = {pixels}, got {tuple(shape)}")
    return shape
