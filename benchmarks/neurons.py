"""Implementations to measure, by name: snnfast's neuron and the same neuron elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

OURS = "snnfast"
BASELINES = ("reference_loop", "tuned_loop", "spikingjelly", "snntorch", "norse", "sinabs")
# Slow to build, so only on request.
OPTIONAL_BASELINES = ("compiled_loop",)


class Skip(Exception):  # noqa: N818
    """Raised for what an implementation does not do, with the reason: a benchmark leaves it out and says so."""


T = TypeVar("T")


def chosen(name: str, implementations: Mapping[str, T]) -> T:
    """The implementation of that name.

    Raises:
        Skip: if there is none.
    """
    if name not in implementations:
        raise Skip(f"choose from {', '.join(implementations)}")
    return implementations[name]


def baseline(name: str) -> Any:
    """The module ``baselines.<name>``.

    Raises:
        ImportError: if its library is not installed.
    """
    return importlib.import_module(f"benchmarks.baselines.{name}")


def lif(name: str) -> Callable[[Tensor], Tensor]:
    """The neuron ``x [T, B, ...] -> spikes`` of one implementation; see ``baselines``.

    A library with several backends takes the name of one after a colon: ``spikingjelly:triton``.

    Raises:
        ImportError: if its library is not installed.
    """
    if name == OURS:
        import snnfast

        return lambda x: snnfast.ops.lif(x, tau=2.0, surrogate="atan", return_state=False)[0]
    library, _, backend = name.partition(":")
    module = baseline(library)
    return module.lif(backend) if backend else module.lif()


def stems() -> list[str]:
    """The neurons of the package, whose kernels run through the scan over time."""
    from snnfast.compiler.neurons import STEMS

    return sorted(stem for stem in STEMS if not stem.startswith("refractory_"))


def module_of(benchmark: str) -> ModuleType:
    """Return the module that measures ``benchmark``: its own, or the one that all neurons share."""
    own = (Path(__file__).parent / f"{benchmark}.py").exists()
    return importlib.import_module(f"benchmarks.{benchmark if own else 'neuron'}")


def described(name: str) -> tuple[str, str]:
    """Version and note of ours or of a baseline; of anything else, as a floor, empty ones."""
    library = name.partition(":")[0]
    if library == OURS:
        note = ""
    elif (Path(__file__).parent / "baselines" / f"{library}.py").exists():
        note = baseline(library).NOTE
    else:
        return "", ""
    try:
        return version(library), note
    except PackageNotFoundError:  # plain PyTorch
        return torch.__version__, note
