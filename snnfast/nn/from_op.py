"""Layers whose arguments are those of their op, which follow from an equation in :mod:`snnfast.reference`."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor

from snnfast import check, ops
from snnfast.reference.neuron_arguments import NEURONS, Tau, entries, sections

from .spiking import Spiking, add_decay, arguments, leak, show
from .state import Stateful

__all__ = ["FromOp", "Readout"]


class _FromOp(Stateful):
    """The part of :class:`FromOp` and :class:`Readout` that reads the arguments of the op."""

    def __init_subclass__(cls) -> None:
        own = vars(cls).get("__doc__")
        super().__init_subclass__()
        if hasattr(cls, "op"):
            spiking = (Spiking.__init__,) * issubclass(cls, Spiking)
            found = arguments(cls.__init__, _of_op(cls.op), *spiking).parameters
            taken = [p for name, p in found.items() if name not in NEURONS[cls.op].fixed]
            cls.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
        if "op" in vars(cls):
            cls.states, cls.__doc__ = NEURONS[cls.op].states, _documentation(cls, own)

    def _own(self, taus: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """Takes from the arguments ``given`` those that not every layer has, with their defaults."""
        layer = type(self).__name__
        names = [p.name for p in _of_op(self.op).parameters.values() if p.kind != p.KEYWORD_ONLY]
        if len(taus) > len(names):
            raise TypeError(f"{layer}: takes {', '.join(names) or 'nothing'} by position, got {len(taus)} arguments")
        for name, value in zip(names, taus):
            if name in given:
                raise TypeError(f"{layer}: {name} is given twice")
            given[name] = value
        return {n: given.pop(n, p.default) for n, p in _of_op(self.op).parameters.items()}

    def _add_own(self, own: dict[str, Any]) -> None:
        """Makes constants of them."""
        if "v_rest" in own:
            # Readouts have no v_reset that could stand in its place.
            if isinstance(self, Readout) and own["v_rest"] is None:
                check.number(type(self).__name__, "v_rest", None)
            self._add_parameter("v_rest", own["v_rest"])
            add_decay(self, "", own["tau"], own["decay"])
            self.decay_input = check.flag(type(self).__name__, "decay_input", own["decay_input"])
            self.constants += ("v_rest", "decay_input")
        for name, argument in NEURONS[self.op].own.items():
            if isinstance(argument, Tau):
                suffix = name.removeprefix("decay")
                add_decay(self, suffix, own[f"tau{suffix}"], own[name], argument.default)
            else:
                self._add_parameter(name, own[name], argument.checked)
                self.constants += (name,)

    def _own_shown(self) -> dict[str, Any]:
        shown = leak(self, "") if "decay_input" in self.constants else {}
        for name, argument in NEURONS[self.op].own.items():
            is_decay = isinstance(argument, Tau)
            shown |= leak(self, name.removeprefix("decay")) if is_decay else {name: getattr(self, name)}
        return shown


@functools.cache
def _of_op(op: str) -> inspect.Signature:
    """Arguments of an op that not every layer has; time constants may be given by position."""
    place, shared = inspect.Parameter.POSITIONAL_OR_KEYWORD, arguments(Spiking.__init__).parameters
    beside = {"x", "r", "return_state", *NEURONS[op].states, *shared}
    own = [p for n, p in inspect.signature(NEURONS[op].check).parameters.items() if n not in beside]
    found = [p.replace(kind=place) if p.name.startswith("tau") else p for p in own]
    return inspect.Signature(sorted(found, key=lambda p: p.kind))


class FromOp(_FromOp, Spiking):
    """Base of the spiking layers that take the arguments of their op, and those of every layer."""

    def __init__(self, *taus: float | Tensor | None, **given: Any) -> None:
        own = self._own(taus, given)
        super().__init__(**given)
        self._add_own(own)

    def _shown(self) -> dict[str, Any]:
        return self._own_shown() | super()._shown()


class Readout(_FromOp):
    """Base of the layers that never fire and give the membrane after every step."""

    surrogate = None

    def __init__(self, *taus: float | Tensor | None, stateful: bool = False, **given: Any) -> None:
        own = self._own(taus, given)
        for name in given:
            raise TypeError(f"{type(self).__name__}: there is no argument {name!r}")
        super().__init__(stateful=stateful)
        self._add_own(own)

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, ...]`` -> membrane ``[T, B, ...]``, at least float32."""
        op = getattr(ops, self.op)
        v_seq, *states = op(x, *self._load_states(x), **self._arguments(x))
        self._store_states(*states)
        return v_seq  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        names = ("decay_input", "v_rest", *("stateful",) * self.stateful)
        return show(self._own_shown() | {name: getattr(self, name) for name in names})


def _documentation(layer: type[_FromOp], text: str | None) -> str | None:
    """The documentation of the op, with the ``text`` of the layer."""
    of_op = NEURONS[layer.op].check.__doc__
    if of_op is None:  # python -OO
        return None
    whole, own = sections(of_op), sections(text or "")
    said = entries(sections(Spiking.__doc__ or "")["Args"]) | entries(whole["Args"])
    said |= entries(own.get("Args", ""))
    every = "\n".join(said[name] for name in inspect.signature(layer).parameters)
    parts = [
        *(whole[""], own[""]),
        f"The layer of :func:`snnfast.ops.{layer.op}`. Every parameter is a number, a tensor (kept as a buffer) or an\n"
        "``nn.Parameter`` (learned).",
        *(f"Args:\n{every}", f"Raises:\n{whole['Raises']}"),
        f"Example::\n\n    net = nn.Sequential(Time(nn.Linear(64, 100)), {layer.__name__}())\n"
        "    y = net(torch.rand(25, 8, 64))    # [T, B, features] -> [25, 8, 100]",
    ]
    return "\n\n".join(filter(None, parts))
