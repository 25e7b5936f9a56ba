"""Compact JSON of results: one row per line, without empty fields, numbers to six digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def short(value: Any) -> Any:
    """Remove empty fields of dictionaries, and round floats to six significant digits."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items() if v is not None and v not in ("", {}, [])}
    if isinstance(value, (list, tuple)):
        return [short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def lines(name: str, value: Any) -> str:
    """Format a field of a document, with one line per entry of a list or dictionary."""
    value = short(value)
    if isinstance(value, dict):
        entries = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
    elif isinstance(value, list):
        entries = [json.dumps(v) for v in value]
    else:
        entries = []
    if not entries:
        return f" {json.dumps(name)}: {json.dumps(value)}"
    begin, end = "{}" if isinstance(value, dict) else "[]"
    inside = ",\n".join(f"  {entry}" for entry in entries)
    return f" {json.dumps(name)}: {begin}\n{inside}\n {end}"


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a file of results; create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = ",\n".join(lines(name, value) for name, value in document.items())
    path.write_text(f"{{\n{fields}\n}}\n")
