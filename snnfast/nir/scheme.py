"""Conversion between the time constants of NIR, in seconds, and decays per step.

NIR's ``tau dv/dt = (v_leak - v) + r I`` becomes ``v[t] = v_leak + decay (v[t-1] - v_leak) + (1 - decay) r I[t]`` with

- ``"euler"``: ``decay = 1 - dt / tau``, as snnTorch and Norse step;
- ``"exponential"``: ``decay = exp(-dt / tau)``, exact for a current that is constant within a step. Sinabs with
  ``norm_input`` uses this; Rockpool has the same decay, and Euler's factor ``dt / tau`` for the current.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from snnfast import check

__all__ = ["SCHEMES", "Steps", "checked", "delays_of", "numbers"]

SCHEMES = ("euler", "exponential")
Array = npt.NDArray[np.float64]


def checked(function: str, dt: object, scheme: object) -> Steps:
    """Check ``dt`` and ``scheme`` of a call of ``function``."""
    dt = check.positive(function, "dt", dt)
    if scheme not in SCHEMES:
        raise ValueError(f"{function}: scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    return Steps(dt, str(scheme))


def numbers(name: str, node: Any, field: str) -> Array:
    """Return the array in a field of the node ``name``, in float64.

    Raises:
        ValueError: with the name of the node, if the field is missing, or holds no real numbers.
    """
    value = np.asarray(getattr(node, field, None))
    if value.dtype.kind not in "biuf":  # a complex number would lose its imaginary part
        found = "nothing" if value.dtype == object else f"{list(value.shape)} of {value.dtype}"
        raise ValueError(
            f"from_nir: {name}, a {type(node).__name__}, must have real numbers as its {field}, got {found}"
        )
    return value.astype(np.float64)


def delays_of(name: str, node: Any) -> Array:
    """Return the delays of the node ``name`` in seconds.

    Raises:
        ValueError: as for :func:`numbers`, and for negative or infinite delays.
    """
    seconds = numbers(name, node, "delay")
    bad = seconds[~((seconds >= 0) & np.isfinite(seconds))]
    if bad.size:
        raise ValueError(f"from_nir: {name}: delays must be finite and at least 0 s, got {bad[0]:g}")
    return seconds


class Steps:
    """Discretisation by a scheme with steps of ``dt`` seconds."""

    def __init__(self, dt: float, scheme: str) -> None:
        self.dt, self.scheme = dt, scheme

    def tau(self, where: str, rate: Any) -> Array:
        """Return time constants in seconds for leak rates per step, 1 minus the decay."""
        rates = np.asarray(rate, dtype=np.float64)
        if (rates <= 0).any():
            raise ValueError(f"{where}: a decay of 1 has no time constant; use IF")
        if self.scheme == "euler":
            return np.asarray(self.dt / rates)
        if (rates >= 1).any():
            raise ValueError(f"{where}: a decay of 0 has no time constant with scheme='exponential'; use 'euler'")
        return np.asarray(-self.dt / np.log1p(-rates))

    def rate(self, where: str, tau: Any) -> Array:
        """Return the leak rate per step for time constants in seconds."""
        seconds = np.asarray(tau, dtype=np.float64)
        if not (seconds > 0).all():
            raise ValueError(f"{where}: time constants must be above 0 s, got {seconds.min():g}")
        if self.scheme == "exponential":
            return np.asarray(-np.expm1(-self.dt / seconds))
        if (seconds < self.dt * (1 - 1e-6)).any():
            raise ValueError(
                f"{where}: a time constant of {seconds.min():g} s is shorter than dt = {self.dt:g} s; give a smaller "
                "dt, or scheme='exponential'"
            )
        return np.asarray(np.minimum(self.dt / seconds, 1.0))
