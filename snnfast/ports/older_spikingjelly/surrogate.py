"""``spikingjelly.clock_driven.surrogate``: the functions that the kernels have, by SpikingJelly's names."""

from __future__ import annotations

from collections.abc import Callable

from snnfast.ports.spikingjelly_neurons import SURROGATES
from snnfast.reference.surrogate import Surrogate

__all__ = ["ATan", "Erf", "PiecewiseQuadratic", "Sigmoid", "SoftSign"]


def _named(name: str, default: float) -> Callable[..., Surrogate]:
    def make(alpha: float = default, spiking: bool = True) -> Surrogate:
        known = SURROGATES[name](alpha) if spiking else None
        if known is None:
            wanted = f"alpha must be {default}, got {alpha}" if spiking else "spiking must be True"
            raise ValueError(f"surrogate.{name}: {wanted}; any function of yours is a surrogate_function, too")
        return known

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"Return SpikingJelly's ``{name}``."
    return make


Sigmoid = _named("Sigmoid", 4.0)
ATan = _named("ATan", 2.0)
Erf = _named("Erf", 2.0)
PiecewiseQuadratic = _named("PiecewiseQuadratic", 1.0)
SoftSign = _named("SoftSign", 2.0)
