"""The layer :class:`AdLIF`: leaky integrate-and-fire neurons with a learned adaptation current."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.reference.adlif import FORMS

from .spiking import Spiking, per_channel

__all__ = ["AdLIF"]

Range = tuple[float, float]
BOUNDS = ("clamp", "sigmoid")


class Published(NamedTuple):
    """Ranges of the parameters that a paper learns, and the reset of its neurons."""

    tau: Range
    tau_w: Range
    a: Range
    b: Range
    v_reset: float | None
    detach_reset: bool


PUBLISHED = {
    "baronig2025": Published((5.0, 25.0), (60.0, 300.0), (0.0, 1.0), (0.0, 2.0), 0.0, True),
    "bittar2022": Published((5.0, 25.0), (30.0, 120.0), (-1.0, 1.0), (0.0, 2.0), None, False),
}


class AdLIF(Spiking):
    """LIF neurons with a learned adaptation current, driven by membrane and spikes (adLIF).

    For every neuron and ``t = 0 ... T-1``::

        h[t] = decay v[t-1] + 1/tau (x[t] - w[t-1])
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset;  h[t] - s[t] v_threshold  with v_reset None
        w[t] = decay_w w[t-1] + q/tau_w (a v[t] + b s[t])               form="baronig2025"
        w[t] = decay_w w[t-1] + a h[t] + b s[t]                       form="bittar2022"

    with ``decay = exp(-1/tau)`` and ``decay_w = exp(-1/tau_w)``, by :func:`snnfast.ops.adlif`, which names the papers.
    ``tau`` (the papers' tau_u), ``tau_w``, ``a`` and ``b`` are learned within ranges; they start at values drawn
    uniformly from these:

    ============= ============ ============ ============= ============ ==================================
    form          tau (steps)  tau_w        a             b            reset, if not given
    ============= ============ ============ ============= ============ ==================================
    baronig2025   5 to 25      60 to 300    0 to 1        0 to 2       to 0, ``detach_reset=True``
    bittar2022    5 to 25      30 to 120    -1 to 1       0 to 2       by the threshold (``v_reset`` None)
    ============= ============ ============ ============= ============ ==================================

    Args:
        channels: how many of each to learn, one for each of the ``C`` channels of ``x`` ``[T, B, C, ...]``; None learns
            one for the layer.
        form: ``"baronig2025"`` or ``"bittar2022"``.
        tau, tau_w, a, b: ``(low, high)``, the range to learn in; the form's if None. Equal bounds fix the value.
        bounds: ``"clamp"`` cuts the learned number to its range, as the papers do (outside of the range it has no
            gradient); ``"sigmoid"`` learns ``r`` in ``low + (high - low) sigmoid(r)``.
        q: factor on ``a`` and ``b`` in ``"baronig2025"``.
        v_reset, detach_reset: as for the other layers; the form's if ``"form"``.

    Attributes:
        raw_tau, raw_tau_w, raw_a, raw_b: the parameters, ``[1]`` or ``[C]``; :meth:`value` gives the values that they
            stand for.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "adlif"
    states = ("v", "w")
    w: Tensor | None
    raw_a: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        form: str = "baronig2025",
        tau: tuple[float, float] | None = None,
        tau_w: tuple[float, float] | None = None,
        a: tuple[float, float] | None = None,
        b: tuple[float, float] | None = None,
        bounds: str = "clamp",
        q: float = 120.0,
        v_reset: float | Tensor | str | None = "form",
        detach_reset: bool | str = "form",
        **firing: Any,
    ) -> None:
        check.choice("AdLIF", "form", form, FORMS)
        check.choice("AdLIF", "bounds", bounds, BOUNDS)
        if channels is not None:
            check.integer("AdLIF", "channels", channels)
        published = PUBLISHED[form]
        super().__init__(
            v_reset=published.v_reset if _is_form(v_reset) else v_reset,  # type: ignore[arg-type]
            detach_reset=published.detach_reset if _is_form(detach_reset) else detach_reset,  # type: ignore[arg-type]
            **firing,
        )
        self.form, self.bounds, self.channels = form, bounds, channels
        self.q = check.number("AdLIF", "q", q)
        self.ranges: dict[str, Range] = {}
        for name, limits in (("tau", tau), ("tau_w", tau_w), ("a", a), ("b", b)):
            low, high = _range(name, getattr(published, name) if limits is None else limits)
            self.ranges[name] = low, high
            start = torch.rand(1 if channels is None else channels)
            # the ends of a sigmoid are infinitely far away
            raw = low + (high - low) * start if bounds == "clamp" else (start * 0.98 + 0.01).logit()
            self.register_parameter(f"raw_{name}", nn.Parameter(raw))

    def value(self, name: str) -> Tensor:
        """Return the current ``"tau"``, ``"tau_w"``, ``"a"`` or ``"b"``, ``[1]`` or ``[C]``, within its range."""
        return self._bounded(name, getattr(self, f"raw_{name}"))

    def _bounded(self, name: str, raw: Tensor) -> Tensor:
        low, high = self.ranges[name]
        return raw.clamp(low, high) if self.bounds == "clamp" else low + (high - low) * raw.sigmoid()

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        values = {n: self._bounded(n, self._constant(f"raw_{n}", x)) for n in self.ranges}
        values = {n: per_channel(self, f"raw_{n}", value, x) for n, value in values.items()}
        decays = {"decay": torch.exp(-1 / values["tau"]), "decay_w": torch.exp(-1 / values["tau_w"])}
        fixed = {"form": self.form, "a": values["a"], "b": values["b"], "q": self.q, "v_rest": 0.0}
        return super()._arguments(x) | decays | fixed

    def _shown(self) -> dict[str, Any]:
        shape = {"channels": self.raw_a.numel()} if self.raw_a.numel() > 1 else {}
        settings = {"form": self.form, **self.ranges, "bounds": self.bounds}
        q = {"q": self.q} if self.form == "baronig2025" else {}
        return shape | settings | q | super()._shown()


def _is_form(value: object) -> bool:
    return isinstance(value, str) and value == "form"


def _range(name: str, value: object) -> Range:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"AdLIF: {name} must be a range (low, high), got {value!r}")
    low, high = (check.number("AdLIF", name, end) for end in value)
    if low > high or (name in ("tau", "tau_w") and low <= 0):
        bound = "0 < low <= high" if name in ("tau", "tau_w") else "low <= high"
        raise ValueError(f"AdLIF: {name} must be a range (low, high) with {bound}, got {value}")
    return low, high
