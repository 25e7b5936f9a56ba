"""A small network of Diehl and Cook 2015 that spikes a lot, and stimuli for it."""

import torch

from snnfast.model import DiehlAndCook2015

CURRENT_BASED = ["manual", "n3ml", "tuned"]


def lively(preset="manual", dtype=torch.float64, **changes):
    """Return a small network that spikes a lot and learns fast."""
    torch.manual_seed(2)
    return DiehlAndCook2015(
        6,
        (5, 4),
        preset,
        dtype=dtype,
        **{
            "norm": 0.3,
            "v_threshold": 3.0,
            "v_reset": 0.0,
            "inhibition": 0.5,
            "theta_plus": 0.3,
            "lr": 0.02,
            "duration": 60,
            **changes,
        },
    )


def rates(P=3):
    return torch.rand(P, 5, 4, generator=torch.Generator().manual_seed(1)) * 300


def spikes(P=3, T=60):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(P, T, 5, 4, generator=generator) < 0.15


def assert_exact(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def assert_same(a, b):
    assert_exact(dict(a), dict(b))
