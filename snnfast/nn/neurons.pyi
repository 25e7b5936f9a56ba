# Made by scripts/stubs.py from the equations in snnfast/reference.
from torch import Tensor

from snnfast.reference.surrogate import SurrogateLike

__all__ = ['ALIF', 'CubaLI', 'EIF', 'IF', 'Izhikevich', 'LI', 'LIF', 'QIF']

from .from_op import FromOp, Readout

class ALIF(FromOp):
    v: Tensor | None
    a: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, tau_adapt: float | Tensor | None = None, *,
        decay: float | Tensor | None = None, beta: float | Tensor = 0.2, decay_adapt: float | Tensor | None = None,
        decay_input: bool = True, v_rest: float | Tensor | None = None, v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0, strict: bool = False, refractory: int = 0, max_spikes: int | None = 1,
        surrogate: SurrogateLike = 'atan', detach_reset: bool = False, stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None: ...

class CubaLI(Readout):
    v: Tensor | None
    i: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, tau_syn: float | Tensor | None = None, *, stateful: bool = False,
        decay: float | Tensor | None = None, decay_syn: float | Tensor | None = None, decay_input: bool = True,
        v_rest: float | Tensor | None = 0.0,
    ) -> None: ...

class EIF(FromOp):
    v: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, *, decay: float | Tensor | None = None, delta_t: float | Tensor = 1.0,
        theta_rh: float | Tensor = 0.8, decay_input: bool = True, v_rest: float | Tensor | None = None,
        v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0, strict: bool = False,
        surrogate: SurrogateLike = 'atan', detach_reset: bool = False, stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None: ...

class IF(FromOp):
    v: Tensor | None
    def __init__(
        self,
        *, v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0, strict: bool = False,
        refractory: int = 0, max_spikes: int | None = 1, surrogate: SurrogateLike = 'atan',
        detach_reset: bool = False, stateful: bool = False, return_v_seq: bool = False,
    ) -> None: ...

class Izhikevich(FromOp):
    v: Tensor | None
    w: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, tau_w: float | Tensor | None = None, *,
        decay: float | Tensor | None = None, a0: float | Tensor = 1.0, v_c: float | Tensor = 0.8,
        decay_w: float | Tensor | None = None, a: float | Tensor = 0.1, b: float | Tensor = 0.1,
        decay_input: bool = True, v_rest: float | Tensor | None = None, v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0, strict: bool = False, surrogate: SurrogateLike = 'atan',
        detach_reset: bool = False, stateful: bool = False, return_v_seq: bool = False,
    ) -> None: ...

class LI(Readout):
    v: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, *, stateful: bool = False, decay: float | Tensor | None = None,
        decay_input: bool = True, v_rest: float | Tensor | None = 0.0,
    ) -> None: ...

class LIF(FromOp):
    v: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, *, decay: float | Tensor | None = None, decay_input: bool = True,
        v_rest: float | Tensor | None = None, v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0, strict: bool = False, refractory: int = 0, max_spikes: int | None = 1,
        surrogate: SurrogateLike = 'atan', detach_reset: bool = False, stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None: ...

class QIF(FromOp):
    v: Tensor | None
    def __init__(
        self,
        tau: float | Tensor | None = None, *, decay: float | Tensor | None = None, a0: float | Tensor = 1.0,
        v_c: float | Tensor = 0.8, decay_input: bool = True, v_rest: float | Tensor | None = None,
        v_threshold: float | Tensor = 1.0, v_reset: float | Tensor | None = 0.0, strict: bool = False,
        surrogate: SurrogateLike = 'atan', detach_reset: bool = False, stateful: bool = False,
        return_v_seq: bool = False,
    ) -> None: ...
