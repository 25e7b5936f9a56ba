"""Between the time constants of NIR, in seconds, and what is left after a step.

NIR's ``tau dv/dt = (v_leak - v) + r I`` becomes ``v[t] = v_leak + decay (v[t-1] - v_leak) + (1 - decay) r I[t]`` with

- ``"euler"``: ``decay = 1 - dt / tau``, as snnTorch and Norse step;
- ``"exponential"``: ``decay = exp(-dt / tau)``, exact for a current that is constant within a step. Sinabs with
  ``norm_input`` steps so; Rockpool has the same decay, and Euler's factor ``dt / tau`` for the current.
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
    """``dt`` and ``scheme`` of a call of ``function``."""
    dt = check.positive(function, "dt", dt)
    if scheme not in SCHEMES:
        raise ValueError(f"{function}: scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    return Steps(dt, str(scheme))


def numbers(name: str, node: Any, field: str) -> Array:
    """The array in a field of the node ``name``, in float64.

    Raises:
        ValueError: with the name of the node, if the field is missing, or holds no real numbers.
    """
    value = np.asarray(getattr(node, field, None))
    if value.dtype.kind not in "biuf":  # a complex number would lose its imaginary part
        what = "nothing" if value.dtype == object else f"{list(value.shape)} of {value.dtype}"
        raise ValueError(
            f"from_nir: {name}, a {type(node).__name__}, must have real numbers as its {field}, got {what}"
        )
    return value.astype(np.float64)


def delays_of(name: str, node: Any) -> Array:
    """The delays of the node ``name`` in seconds.

    Raises:
        ValueError: as for :func:`numbers`, and for delays below 0 or without end.
    """
    seconds = numbers(name, node, "delay")
    bad = seconds[~((seconds >= 0) & np.isfinite(seconds))]
    if bad.size:
        raise ValueError(f"from_nir: {name}: delays must be finite and at least 0 s, got {bad[0]:g}")
    return seconds


class Steps:
    """Steps of ``dt`` seconds by a scheme."""

    def __init__(self, dt: float, scheme: str) -> None:
        self.dt, self.scheme = dt, scheme

    def tau(self, where: str, rate: Any) -> Array:
        """Seconds, from what goes in a step, 1 less the decay."""
        gone = np.asarray(rate, dtype=np.float64)
        if (gone <= 0).any():
            raise ValueError(f"{where}: a decay of 1 has no time constant; use IF")
        if self.scheme == "euler":
            return np.asarray(self.dt / gone)
        if (gone >= 1).any():
            raise ValueError(f"{where}: a decay of 0 has no time constant with scheme='exponential'; use 'euler'")
        return np.asarray(-self.dt / np.log1p(-gone))

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
