"""Layers with the arguments of their op, which follow from an equation in :mod:`snnfast.reference`."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor

from snnfast import check, ops
from snnfast.reference.neuron_arguments import NEURONS, Neuron, Tau, entries, sections

from .spiking import Spiking, add_decay, arguments, leak, show
from .state import Stateful

__all__ = ["FromOp", "Readout"]


class _FromOp(Stateful):
    """The part of :class:`FromOp` and :class:`Readout` that reads the arguments of the op."""

    neuron: Neuron

    def __init_subclass__(cls) -> None:
        doc = vars(cls).get("__doc__")
        if vars(cls).get("op") in NEURONS:
            cls.neuron = NEURONS[cls.op]
        super().__init_subclass__()
        if hasattr(cls, "neuron"):
            fixed, spiking = cls.neuron.fixed, (Spiking.__init__,) * issubclass(cls, Spiking)
            found = arguments(cls.__init__, _specific(cls.neuron), *spiking).parameters
            taken = [p for name, p in found.items() if name not in fixed]
            cls.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
            cls.states = cls.neuron.states
            cls.constants = tuple(name for name in cls.constants if name not in fixed)
        if "op" in vars(cls) and cls.op in NEURONS:
            cls.__doc__ = _documentation(cls, doc)

    def _take_specific(self, taus: tuple[Any, ...], arguments: dict[str, Any]) -> dict[str, Any]:
        """Remove from ``arguments`` those that only some layers have, and return them with their defaults."""
        layer = type(self).__name__
        specific = _specific(self.neuron).parameters
        names = [p.name for p in specific.values() if p.kind != p.KEYWORD_ONLY]
        if len(taus) > len(names):
            raise TypeError(f"{layer}: takes {', '.join(names) or 'nothing'} by position, got {len(taus)} arguments")
        for name, value in zip(names, taus):
            if name in arguments:
                raise TypeError(f"{layer}: {name} is given twice")
            arguments[name] = value
        if "v_threshold" in arguments and "v_threshold" in self.neuron.fixed:
            raise TypeError(f"{layer}: there is no argument 'v_threshold'")
        for name in ("v_threshold", "v_reset"):  # arguments of every layer, perhaps with a default of the step
            if name in self.neuron.specific:
                arguments.setdefault(name, self.neuron.specific[name].default)
        return {n: arguments.pop(n, p.default) for n, p in specific.items()}

    def _add_specific(self, specific: dict[str, Any]) -> None:
        """Register the arguments that :meth:`_take_specific` returned as constants."""
        if "v_rest" in specific and self.neuron.in_package:
            # Readouts have no v_reset that could stand in its place.
            if isinstance(self, Readout) and specific["v_rest"] is None:
                check.number(type(self).__name__, "v_rest", None)
            self._add_parameter("v_rest", specific["v_rest"])
            add_decay(self, "", specific["tau"], specific["decay"])
            self.decay_input = check.flag(type(self).__name__, "decay_input", specific["decay_input"])
            self.constants += ("v_rest", "decay_input")
        for name, argument in self.neuron.specific.items():
            if isinstance(argument, Tau):
                suffix = name.removeprefix("decay")
                add_decay(self, suffix, specific[f"tau{suffix}"], specific[name], argument.default)
            elif name in specific:
                self._add_parameter(name, specific[name], argument.checked)
                self.constants += (name,)

    def _op_shown(self) -> dict[str, Any]:
        shown = leak(self, "") if self.neuron.in_package and "decay_input" in self.constants else {}
        for name, argument in self.neuron.specific.items():
            is_decay = isinstance(argument, Tau)
            shown |= leak(self, name.removeprefix("decay")) if is_decay else {name: getattr(self, name)}
        return shown


@functools.cache
def _specific(neuron: Neuron) -> inspect.Signature:
    """Arguments of an op that only some layers have; time constants may be passed by position."""
    place, shared = inspect.Parameter.POSITIONAL_OR_KEYWORD, arguments(Spiking.__init__).parameters
    shared_names = {*neuron.inputs, "r", "return_state", *neuron.states, *shared}
    specific = [p for n, p in inspect.signature(neuron.check).parameters.items() if n not in shared_names]
    found = [p.replace(kind=place) if p.name.startswith("tau") else p for p in specific]
    return inspect.Signature(sorted(found, key=lambda p: p.kind))


class FromOp(_FromOp, Spiking):
    """Base of the spiking layers that take the arguments of their op, and those of every layer."""

    def __init__(self, *taus: float | Tensor | None, **arguments: Any) -> None:
        specific = self._take_specific(taus, arguments)
        super().__init__(**arguments)
        self._add_specific(specific)

    def _shown(self) -> dict[str, Any]:
        return self._op_shown() | super()._shown()


class Readout(_FromOp):
    """Base of the layers that never fire and return the membrane after every step."""

    surrogate = None

    def __init__(self, *taus: float | Tensor | None, stateful: bool = False, **arguments: Any) -> None:
        specific = self._take_specific(taus, arguments)
        for name in arguments:
            raise TypeError(f"{type(self).__name__}: there is no argument {name!r}")
        super().__init__(stateful=stateful)
        self._add_specific(specific)

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, ...]`` -> membrane ``[T, B, ...]``, at least float32."""
        op = getattr(ops, self.op)
        v_seq, *states = op(x, *self._load_states(x), **self._arguments(x))
        self._store_states(*states)
        return v_seq  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The constants; tensors by their shape."""
        names = ("decay_input", "v_rest", *("stateful",) * self.stateful)
        return show(self._op_shown() | {name: getattr(self, name) for name in names})


def _documentation(layer: type[_FromOp], text: str | None) -> str | None:
    """The documentation of the op, with the ``text`` of the layer."""
    op_doc = layer.neuron.check.__doc__
    if op_doc is None:  # python -OO
        return None
    op_parts, added = sections(op_doc), sections(text or "")
    documented = entries(sections(Spiking.__doc__ or "")["Args"]) | entries(op_parts["Args"])
    documented |= entries(added.get("Args", ""))
    every = "\n".join(documented[name] for name in inspect.signature(layer).parameters)
    parts = [
        *(op_parts[""], added[""]),
        f"The layer of :func:`snnfast.ops.{layer.op}`. Every parameter is a number, a tensor (kept as a buffer) or an\n"
        "``nn.Parameter`` (learned).",
        *(f"Args:\n{every}", f"Raises:\n{op_parts['Raises']}"),
        f"Example::\n\n    net = nn.Sequential(Time(nn.Linear(64, 100)), {layer.__name__}())\n"
        "    y = net(torch.rand(25, 8, 64))    # [T, B, features] -> [25, 8, 100]",
    ]
    return "\n\n".join(filter(None, parts))
