"""The package ``nir``, imported when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["package"]


def package(function: str) -> Any:
    """The package ``nir``; an error that names ``function`` if it is not installed."""
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            f'{function}: needs nir, which is not installed: pip install "snnfast[nir]"'
        ) from error
