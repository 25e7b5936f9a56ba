"""Time constants that a call does not give."""

import pytest
import torch
from samples import assert_equal

from snnfast import ops

DEFAULTS = {
    "lif": {"tau": 2.0},
    "li": {"tau": 2.0},
    "cuba": {"tau": 2.0, "tau_syn": 2.0},
    "cubali": {"tau": 2.0, "tau_syn": 2.0},
    "alif": {"tau": 2.0, "tau_adapt": 100.0},
    "adlif": {"tau": 2.0, "tau_w": 100.0},
    "qif": {"tau": 2.0},
    "eif": {"tau": 2.0},
    "izhikevich": {"tau": 2.0, "tau_w": 10.0},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_time_constants(name):
    x = 3 * torch.rand(40, 20, generator=torch.Generator().manual_seed(0))
    op, values = getattr(ops, name), DEFAULTS[name]
    found = op(x)
    assert_equal(list(found), list(op(x, **values)))
    for constant, value in values.items():
        other = op(x, **values | {constant: value + 0.5})
        assert any((a != b).any() for a, b in zip(found, other)), constant
