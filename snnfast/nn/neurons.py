"""Layers with the arguments of their ops: :class:`FromOp` reads them from the op's equation."""

from torch import Tensor

from .from_op import FromOp, Readout

__all__ = ["ALIF", "EIF", "IF", "LI", "LIF", "QIF", "CubaLI", "Izhikevich"]


class LIF(FromOp):
    op = "lif"
    v: Tensor | None


class IF(FromOp):
    op = "iaf"
    v: Tensor | None


class LI(Readout):
    op = "li"
    v: Tensor | None


class CubaLI(Readout):
    op = "cubali"
    v: Tensor | None
    i: Tensor | None


class ALIF(FromOp):
    op = "alif"
    v: Tensor | None
    a: Tensor | None


class QIF(FromOp):
    op = "qif"
    v: Tensor | None


class EIF(FromOp):
    op = "eif"
    v: Tensor | None


class Izhikevich(FromOp):
    op = "izhikevich"
    v: Tensor | None
    w: Tensor | None
