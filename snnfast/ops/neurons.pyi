# Made by scripts/stubs.py from the equations in snnfast/reference.
from torch import Tensor

from snnfast.reference.surrogate import SurrogateLike

__all__ = ['adlif', 'alif', 'cuba', 'cubali', 'eif', 'iaf', 'izhikevich', 'li', 'lif', 'qif']

def lif(
    x: Tensor, v: Tensor | None = None, *, tau: float | Tensor | None = None, decay: float | Tensor | None = None,
    decay_input: bool = True, v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None, strict: bool = False, refractory: int = 0, r: Tensor | None = None,
    max_spikes: int | None = 1, surrogate: SurrogateLike = 'atan', detach_reset: bool = False,
    return_state: bool = True, return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def iaf(
    x: Tensor, v: Tensor | None = None, *, v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0,
    strict: bool = False, refractory: int = 0, r: Tensor | None = None, max_spikes: int | None = 1,
    surrogate: SurrogateLike = 'atan', detach_reset: bool = False, return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def li(
    x: Tensor, v: Tensor | None = None, *, tau: float | Tensor | None = None, decay: float | Tensor | None = None,
    decay_input: bool = True, v_rest: float | Tensor | None = 0.0,
) -> tuple[Tensor, Tensor]: ...

def adlif(
    x: Tensor, v: Tensor | None = None, w: Tensor | None = None, *, tau: float | Tensor | None = None,
    decay: float | Tensor | None = None, tau_w: float | Tensor | None = None, decay_w: float | Tensor | None = None,
    a: float | Tensor = 0.5, b: float | Tensor = 1.0, form: str = 'baronig2025', q: float = 120.0,
    decay_input: bool = True, v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None, strict: bool = False, refractory: int = 0, r: Tensor | None = None,
    max_spikes: int | None = 1, surrogate: SurrogateLike = 'atan', detach_reset: bool = False,
    return_state: bool = True, return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def alif(
    x: Tensor, v: Tensor | None = None, a: Tensor | None = None, *, tau: float | Tensor | None = None,
    decay: float | Tensor | None = None, beta: float | Tensor = 0.2, tau_adapt: float | Tensor | None = None,
    decay_adapt: float | Tensor | None = None, decay_input: bool = True, v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0, v_rest: float | Tensor | None = None, strict: bool = False,
    refractory: int = 0, r: Tensor | None = None, max_spikes: int | None = 1, surrogate: SurrogateLike = 'atan',
    detach_reset: bool = False, return_state: bool = True, return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def cuba(
    x: Tensor, v: Tensor | None = None, i: Tensor | None = None, *, tau: float | Tensor | None = None,
    decay: float | Tensor | None = None, tau_syn: float | Tensor | None = None,
    decay_syn: float | Tensor | None = None, decay_input: bool = True, v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0, v_rest: float | Tensor | None = None, strict: bool = False,
    refractory: int = 0, r: Tensor | None = None, max_spikes: int | None = 1, surrogate: SurrogateLike = 'atan',
    detach_reset: bool = False, return_state: bool = True, return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def cubali(
    x: Tensor, v: Tensor | None = None, i: Tensor | None = None, *, tau: float | Tensor | None = None,
    decay: float | Tensor | None = None, tau_syn: float | Tensor | None = None,
    decay_syn: float | Tensor | None = None, decay_input: bool = True, v_rest: float | Tensor | None = 0.0,
) -> tuple[Tensor, Tensor, Tensor]: ...

def eif(
    x: Tensor, v: Tensor | None = None, *, tau: float | Tensor | None = None, decay: float | Tensor | None = None,
    delta_t: float | Tensor = 1.0, theta_rh: float | Tensor = 0.8, decay_input: bool = True,
    v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0, v_rest: float | Tensor | None = None,
    strict: bool = False, surrogate: SurrogateLike = 'atan', detach_reset: bool = False, return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def qif(
    x: Tensor, v: Tensor | None = None, *, tau: float | Tensor | None = None, decay: float | Tensor | None = None,
    a0: float | Tensor = 1.0, v_c: float | Tensor = 0.8, decay_input: bool = True,
    v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0, v_rest: float | Tensor | None = None,
    strict: bool = False, surrogate: SurrogateLike = 'atan', detach_reset: bool = False, return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...

def izhikevich(
    x: Tensor, v: Tensor | None = None, w: Tensor | None = None, *, tau: float | Tensor | None = None,
    decay: float | Tensor | None = None, a0: float | Tensor = 1.0, v_c: float | Tensor = 0.8,
    tau_w: float | Tensor | None = None, decay_w: float | Tensor | None = None, a: float | Tensor = 0.1,
    b: float | Tensor = 0.1, decay_input: bool = True, v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0, v_rest: float | Tensor | None = None, strict: bool = False,
    surrogate: SurrogateLike = 'atan', detach_reset: bool = False, return_state: bool = True,
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]: ...
