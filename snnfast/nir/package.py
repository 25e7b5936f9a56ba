"""Import of the package ``nir`` on first use."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from typing import Any

__all__ = ["package"]


def package(function: str) -> Any:
    """Return the package ``nir``; raise an error for ``function`` if it is missing, or older than 1.0.8."""
    try:
        nir = importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            f'{function}: needs nir, which is not installed: pip install ".[nir]" in the folder of snnfast'
        ) from error
    found = importlib.metadata.version("nir")
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < (1, 0, 8):
        raise ImportError(
            f'{function}: needs nir 1.0.8 or later, got {found}: pip install -U ".[nir]" in the folder of snnfast'
        )
    return nir
