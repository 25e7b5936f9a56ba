"""Graphs of NIR to read."""

import itertools

import numpy as np
import pytest

nir = pytest.importorskip("nir")


def graph_of(*nodes, shape=(3,)):
    """Return a chain of ``nodes``, n0, n1, ..., for samples of ``shape``."""
    names = [f"n{i}" for i in range(len(nodes))]
    every = {"in": nir.Input(np.array(shape)), **dict(zip(names, nodes)), "out": nir.Output(None)}
    order = list(every)
    return nir.NIRGraph(every, list(itertools.pairwise(order)), type_check=False)
