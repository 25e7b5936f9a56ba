"""Classes of replaced neurons that ``isinstance`` also takes for classes of their library: :func:`instance_of`."""

from __future__ import annotations

import copyreg
import importlib
from abc import ABCMeta
from functools import cache, reduce
from typing import Any, NoReturn

__all__ = ["instance_of"]


class _Instance(ABCMeta):
    """Type of a class whose method resolution order ends with the library's classes, after ``object``.

    ``isinstance`` and ``issubclass`` search this order, and so does ``torch.compile``. Every other look-up ends before
    the library's classes, so none of their code runs.
    """

    library_class: type

    def mro(cls) -> list[type]:
        """Return the order of the neuron's class, then the library's classes."""
        order = super().mro()
        return order + [kind for kind in cls.__dict__["library_class"].__mro__ if kind not in order]


class _Missing:
    """An attribute of the library's class that the neuron's class lacks; its instances may still have it."""

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError


@cache
def instance_of(neuron: Any, library_class: Any) -> type:
    """Return the class ``neuron``, whose instances are also instances of ``library_class`` and of its bases.

    A ``forward`` may branch on ``isinstance(module, BaseNode)``. Nothing is inherited from ``library_class``.
    """
    names = set(dir(library_class)) - set(dir(neuron))
    attributes = {name: getattr(neuron, name) for name in ("__doc__", "__module__", "__qualname__")}
    attributes |= dict.fromkeys(names, _Missing()) | {"library_class": library_class}
    return _Instance(neuron.__name__, (neuron,), attributes)


def _load(neuron: type, module: str, name: str) -> type:
    """Return the class of a pickled neuron; ``neuron`` itself where its library is not installed."""
    try:
        library_class = reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return neuron
    return instance_of(neuron, library_class)


def _reduce(kind: _Instance) -> tuple[Any, ...]:
    library_class = kind.library_class
    return _load, (kind.__bases__[0], library_class.__module__, library_class.__qualname__)


copyreg.pickle(_Instance, _reduce)
