"""CPU time of ``import snnfast`` beyond that of PyTorch, in fresh processes: the first compiles the Python files."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

HEADER = ("import snnfast", "s", "limit")
LIMIT = 0.2
CODE = """
import time
import torch
start = time.process_time()
import snnfast
print(time.process_time() - start)
"""


def rows(repeats: int) -> list[tuple[str, ...]]:
    """Return rows of the table: the first import, then the least and the median of ``repeats`` more."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder

        def seconds() -> float:
            done = subprocess.run(
                [sys.executable, "-c", CODE], env=environment, check=True, capture_output=True, text=True
            )
            return float(done.stdout)

        first, *later = [seconds() for _ in range(repeats + 1)]
    return [
        ("first, not compiled", f"{first:.3f}", ""),
        ("least", f"{min(later):.3f}", f"{LIMIT}"),
        ("median", f"{statistics.median(later):.3f}", f"{LIMIT}"),
    ]
