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
# Slow to compile, so only on request.
OPTIONAL_BASELINES = ("compiled_loop",)


class Skip(Exception):  # noqa: N818
    """Raised if an implementation lacks a case, with the reason; the benchmark skips it and says so."""


T = TypeVar("T")


def chosen(name: str, implementations: Mapping[str, T]) -> T:
    """Return the implementation of that name.

    Raises:
        Skip: if there is none.
    """
    if name not in implementations:
        raise Skip(f"choose from {', '.join(implementations)}")
    return implementations[name]


def baseline(name: str) -> Any:
    """Import the module ``baselines.<name>``.

    Raises:
        ImportError: if its library is not installed.
    """
    return importlib.import_module(f"benchmarks.baselines.{name}")


def lif(name: str) -> Callable[[Tensor], Tensor]:
    """Return the neuron ``x [T, B, ...] -> spikes`` of one implementation; see ``baselines``.

    For a library with several backends, one may follow after a colon: ``spikingjelly:triton``.

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
    """Return the stems of the neurons whose kernels are generated."""
    from snnfast.compiler.neurons import STEMS

    return sorted(stem for stem in STEMS if not stem.startswith("refractory_"))


def benchmarks() -> list[str]:
    """Return the names of the modules here with a benchmark in passes, ``prepare``, but those that neurons share."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem for file in files if "\ndef prepare(" in file.read_text() and file.stem not in ("lif", "neuron")]


def module_of(benchmark: str) -> ModuleType:
    """Return the module of ``benchmark``, or ``benchmarks.neuron``, which neurons share."""
    exists = (Path(__file__).parent / f"{benchmark}.py").exists()
    return importlib.import_module(f"benchmarks.{benchmark if exists else 'neuron'}")


def described(name: str) -> tuple[str, str]:
    """Return version and note of snnfast or a baseline; empty strings for other names, such as a floor."""
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
