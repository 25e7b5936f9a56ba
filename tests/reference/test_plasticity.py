"""Defaults of plasticity rules."""

import inspect

from snnfast import plasticity

BOTH = {"lr_pre": 1e-4, "lr_post": 1e-2}
TRACES = {"tau_pre": 20.0, "tau_post": 20.0}
DEFAULTS = {
    "exponential": {"lr": 1e-2, "x_tar": 0.4, "beta": 1.0, "tau_pre": 20.0},
    "pair": {**BOTH, **TRACES},
    "power_law": {"lr": 1e-2, "x_tar": 0.4, "mu": 0.2, "tau_pre": 20.0},
    "pre_post": {**BOTH, "x_tar": 0.4, "mu": 0.2, **TRACES},
    "soft_bounds": {**BOTH, **TRACES},
    "triplet": {**BOTH, "lr_pre_triplet": 0.0, "lr_post_pair": 0.0, **TRACES, "tau_pre2": 40.0, "tau_post2": 40.0},
}


def test_defaults_stay():
    """Another default would train a user's network otherwise."""
    for name, constants in DEFAULTS.items():
        found = {k: p.default for k, p in inspect.signature(getattr(plasticity, name)).parameters.items()}
        assert found == {**constants, "trace": "nearest", "w_min": 0.0, "w_max": 1.0}, name
    assert inspect.signature(plasticity.reward_modulated).parameters["tau_eligibility"].default == 100.0
