"""Inventories for links of the API reference: their names exist in PyTorch, NumPy, Matplotlib and Python."""

import importlib
import re
from pathlib import Path

import pytest

INVENTORIES = sorted((Path(__file__).parents[2] / "docs/inventories").glob("*.txt"))


@pytest.mark.parametrize("file", INVENTORIES, ids=lambda file: file.stem)
def test_names_exist(file):
    head, *lines = file.read_text().splitlines()
    assert head == "# Sphinx inventory version 1"  # plain text: name, kind, page
    assert len(lines) > 2
    for line in lines[2:]:
        name, kind, page = line.split()
        assert re.fullmatch(r"[\w./-]+\.html", page)
        if kind == "mod":
            importlib.import_module(name)
            continue
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        assert callable(value) or attribute == "ArrayLike"
        if file.stem == "torch" and page.startswith("generated/"):
            assert page == f"generated/{name}.html"
