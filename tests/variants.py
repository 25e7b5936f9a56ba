"""Keyword arguments for the tests of neurons by kind: with spikes, leaky, refractory."""

from samples import SURROGATES, Values

FIRING = {
    "v_reset": {"v_reset": -0.3},
    "soft": {"v_reset": None},
    "low_threshold": {"v_threshold": 0.25},
    "negative_threshold": {"v_threshold": -0.5, "v_reset": -2.0},
    "threshold_each": {"v_threshold": Values(0.5, 1.5)},
    "threshold_channel": {"v_threshold": Values(0.5, 1.5, "channel"), "v_reset": None},
    "threshold_scalar": {"v_threshold": Values(0.5, 1.5, "scalar")},
    "v_reset_each": {"v_reset": Values(-0.5, 0.3)},
    "v_reset_channel": {"v_reset": Values(-0.5, 0.3, "channel"), "return_v_seq": True},
    "detach_reset": {"detach_reset": True},
    "detach_soft": {"detach_reset": True, "v_reset": None},
    "strict": {"strict": True},
    "strict_soft": {"strict": True, "v_reset": None},
    "v_seq": {"return_v_seq": True},
    "v_seq_soft": {"return_v_seq": True, "v_reset": None},
    **{s: {"surrogate": s} for s in SURROGATES},
    **{f"{s}_soft": {"surrogate": s, "v_reset": None} for s in SURROGATES},
}
HARD_FIRING = {k: v for k, v in FIRING.items() if v.get("v_reset", 0.0) is not None}
LEAKY = {
    "tau": {"tau": 3.7},
    "tau_1": {"tau": 1.0},
    "tau_each": {"tau": Values(1.0, 9.0)},
    "decay_0": {"decay": 0.0},
    "decay_1": {"decay": 1.0, "decay_input": False},
    "decay_each": {"decay": Values(0.0, 1.0)},
    "decay_channel": {"decay": Values(0.0, 1.0, "channel")},
    "decay_last": {"decay": Values(0.0, 1.0, "last")},
    "decay_ends": {"decay": Values(0.0, 1.0, "ends")},
    "decay_scalar": {"decay": Values(0.3, 0.9, "scalar")},
    "decay_scalar_unscaled": {"decay": Values(0.3, 0.9, "scalar"), "decay_input": False},
    "unscaled": {"decay_input": False},
    "v_rest": {"v_rest": 0.2},
    "v_rest_each": {"v_rest": Values(-0.3, 0.3)},
    "v_rest_scalar": {"v_rest": Values(-0.3, 0.3, "scalar"), "decay": Values(0.1, 0.9, "last")},
}
LEAKY_FIRING = {
    "all_tensors": {
        "decay": Values(0.1, 0.9),
        "v_threshold": Values(0.5, 1.5, "channel"),
        "v_reset": None,
        "v_rest": Values(-0.2, 0.1),
        "return_v_seq": True,
    },
    "all_tensors_hard": {
        "tau": Values(1.5, 5.0, "last"),
        "v_threshold": Values(0.5, 1.5),
        "v_reset": Values(-0.2, 0.2, "channel"),
        "v_rest": -0.1,
        "return_v_seq": True,
        "decay_input": False,
    },
}
# Neurons with a refractory period or several spikes per step, which have separate kernels.
REFRACTORY = {
    "refractory": {"refractory": 2, "return_v_seq": True},
    "refractory_tensors": {
        "refractory": 1,
        "v_threshold": Values(0.5, 1.5),
        "v_reset": Values(-0.5, 0.3, "channel"),
        "surrogate": "sigmoid",
    },
    "several": {"max_spikes": None, "v_reset": None, "v_threshold": 0.4},
    "several_refractory": {
        "max_spikes": 3,
        "refractory": 1,
        "v_reset": None,
        "v_threshold": Values(0.2, 0.6),
        "strict": True,
        "detach_reset": True,
    },
}
NOT_RETURNED = {"return_state": {"return_state": False}}
