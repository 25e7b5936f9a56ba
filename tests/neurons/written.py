"""The reference against the equations of a single neuron, step by step, in Python floats."""

from types import SimpleNamespace

import pytest
import torch
from cases import pairwise
from samples import Sample, over_neurons


def constants_and_resets(op):
    """Return a few of all combinations, in which each two values meet."""
    return [(op, *row) for row in pairwise(op.written_for, (0.0, -0.25, None), (None, 0.1), (True, False))]


@over_neurons("op constants v_reset v_rest decay_input", constants_and_resets)
def test_reference_follows_the_equations(op, constants, v_reset, v_rest, decay_input):
    x = Sample(op, "plain", (50, 3), torch.float64).arguments()["x"] * (0.6 if op.runs_away else 1)
    states = torch.tensor([[0.1, 0.2, -0.3], [0.3, 0.0, -0.2]]).double()[: len(op.states)]
    options = {**constants, "decay_input": decay_input, "v_threshold": 0.8, "v_reset": v_reset}
    arguments = dict(zip(op.states, states), x=x, v_rest=v_rest, return_v_seq=True)
    spikes, *last, v_seq = op.reference(**arguments, **options)
    assert 0 < spikes.mean() < 1

    def fire(h, above=0.0):
        s = float(h >= 0.8 + above)
        return s, h if not s else h - 0.8 if v_reset is None else v_reset

    rate = 1 / constants["tau"]
    n = SimpleNamespace(fire=fire, rate=rate, decay=1 - rate, gain=rate if decay_input else 1.0)
    n.rest = v_rest if v_rest is not None else v_reset or 0.0
    vars(n).update(constants)
    close = {"rel": 0, "abs": 1e-13 if op.name == "eif" else 0}  # its exponential differs from Python's
    for neuron in range(3):
        current = states[:, neuron].tolist()
        for t in range(len(x)):
            s, *current = op.written(n, x[t, neuron].item(), *current)
            assert s == spikes[t, neuron]
            assert v_seq[t, neuron] == pytest.approx(current[0], **close)
        assert [state[neuron].item() for state in last] == pytest.approx(current, **close)
