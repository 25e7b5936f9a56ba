"""A wrong value for every argument of every public function: a TypeError or ValueError that names it."""

import dataclasses
import functools
import inspect
import math

import pytest
import torch
from cases import check_each

from snnfast import connect, encoder, nn, ops, plasticity
from snnfast.nn import SpikeProp, loss
from snnfast.reference.neuron_arguments import NEURONS

HUGE = 10**400  # too large for a float; Python prints at most 4300 digits
# By annotation: the first that matches.
HOSTILE = {
    "bool | None": ("no", 2),
    "bool": ("no", None, 2),
    "device": (),
    "Generator": ("a", 3, HUGE),
    "dtype": ("a", 3, HUGE),
    "Surrogate": ("no such", 3, HUGE),
    "State": ("a", 3),
    "Rule": ("a", 3),
    "Rates": ("a", 3.5, HUGE),
    "Sequence": ("a", object(), HUGE),
    "tuple": ("a", 3),
    "Setting": ("a", object(), HUGE, -HUGE, [1.0], b"a"),
    "float": ("a", object(), HUGE, -HUGE),
    "int": ("a", object(), HUGE, -HUGE, 2.5),
    "Tensor": ("a", 3.5, 3, HUGE, torch.zeros(2, 3).to_sparse(), torch.nested.nested_tensor([[0.0]])),
    "str": ("no such", 3),
    "Update": ("no such", 3),
    "Reduction": ("no such", 3),
    "Method": ("no such", 3),
    "Literal": ("no such", 3),
    "Verify": ("a", 3, object()),
    "Module": ("a", 3),
    "Connectivity": ("a", 3, torch.zeros(4, 4)),
    "range": ("a", 3, [0, 1], range(HUGE)),
    "PoissonNoise": ("a", 3, torch.zeros(4)),
    "Online": ("a", 3, torch.zeros(4)),
    "Part": ("a", 3, torch.zeros(4)),
    "SpikeProp": ("a", 3),
    "Spiking": ("a", 3),
    "Any": (),
}


def spikes(*shape):
    return (torch.arange(math.prod(shape)).view(shape) % 3 == 0).float()


class IFNode(torch.nn.Module):
    """Stand-in for SpikingJelly's neuron."""

    __module__ = "spikingjelly.activation_based.neuron"
    step_mode, v_threshold, v_reset, detach_reset = "m", 1.0, 0.0, False
    surrogate_function = type("Sigmoid", (), {"__module__": "spikingjelly", "alpha": 4.0})()


X = torch.zeros(3, 2, 4)
T = torch.tensor([[1.0, 2.0], [3.0, math.inf]])
W = torch.full((3, 4), 0.5)
WHOLE = {"gain": torch.ones(4, dtype=torch.int32), "bias": torch.zeros(4, dtype=torch.int32)}
COMPETITION = {"x": spikes(2, 5, 4), "w": W, "theta": torch.zeros(3)}
CONDUCTANCES = "diehl_cook_ with conductances"
FIELDS = {"neurons": 4, "minimum": [0.0], "maximum": [1.0]}
# Arguments of each call, of which one after the other is replaced; layers also get an input.
GOOD = {
    **{op: {"x": X} for op in NEURONS},
    **{name: {} for name in nn.__all__ if hasattr(getattr(nn, name), "op")},
    "batch_norm": {"x": torch.zeros(2, 3, 4, 4)},
    "pool2d": {"x": torch.zeros(2, 3, 4, 4), "kernel": 2},
    "spike_conv2d": {"x": torch.zeros(2, 3, 4, 4), "weight": torch.ones(2, 3, 3, 3)},
    "delay": {"x": X, "d": 1.5},
    "integer_lif": {"x": X.int(), **WHOLE},
    "IntegerLIF": WHOLE,
    "recurrent": {"x": X, "weight": torch.zeros(4, 4)},
    "sparse_recurrent": {"x": X, "weight": torch.ones(4), "connectivity": connect.one_to_one(4)},
    "sparse_stdp_": {
        "w": torch.full((4,), 0.5),
        **{"pre": spikes(5, 2, 4), "post": spikes(5, 2, 4)},
        **{"connectivity": connect.one_to_one(4), "rule": plasticity.pair()},
    },
    "sparse_linear": {"x": X, "weight": torch.ones(4), "connectivity": connect.one_to_one(4)},
    "spike_count": {"x": X},
    "spike_linear": {"x": X, "weight": W},
    "poisson": {"p": torch.full((4,), 0.5), "num_steps": 3},
    "spikeprop": {"t_in": T, "w": torch.ones(3, 2, 1), "delays": torch.ones(1), "tau": 2.0, "t_max": 9.0},
    "eventprop": {
        "t_in": T,
        "w": torch.ones(3, 2),
        "w_rec": torch.ones(3, 3),
        **{"tau_mem": 4.0, "tau_syn": 2.0, "t_max": 9.0},
    },
    "stdp_": {"w": W, "pre": spikes(5, 2, 4), "post": spikes(5, 2, 3), "rule": plasticity.pair()},
    "bp_stdp_": {"w": W, "pre": spikes(5, 2, 4), "error": torch.zeros(5, 2, 3)},
    "bp_stdp_network_": {"weights": [W], "x": spikes(2, 5, 4), "thresholds": [0.9]},
    "diehl_cook_": COMPETITION,
    CONDUCTANCES: {**COMPETITION, "theta": torch.zeros(3, dtype=torch.float64)},
    "RLIF": {"features": 4},
    "Recomputed": {},
    "Recurrent": {"neuron": nn.LIF(), "features": 4},
    "SparseLinear": {"connectivity": connect.one_to_one(4)},
    "SparseRecurrent": {"neuron": nn.LIF(), "connectivity": connect.one_to_one(4)},
    "Delay": {"channels": 3, "max_delay": 4.0},
    "PSN": {"num_steps": 2},
    "SlidingPSN": {"order": 2},
    "RatePool": {"pool": torch.nn.MaxPool2d(2)},
    "Rate": {},
    "Count": {},
    "Last": {},
    "Max": {},
    "FirstSpike": {},
    "within": {"lengths": torch.tensor([2, 3]), "num_steps": 3},
    "SpikeConv2d": {"in_channels": 3, "out_channels": 2, "kernel_size": 3},
    "SpikeLinear": {"in_features": 4, "out_features": 3},
    "SpikeProp": {"in_features": 2, "out_features": 3, "delays": 2},
    "EventProp": {"in_features": 2, "out_features": 3, "max_spikes": 99},
    "EventReadout": {"in_features": 2, "out_features": 3},
    "calibrate": {"layer": None, "t": T, "mean_time": 9.0},
    "calibrate_": {
        "net": torch.nn.Sequential(nn.Time(torch.nn.Linear(4, 3)), nn.LIF()),
        "x": torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(0)),
    },
    "Sequential": {},
    "detach": {"net": nn.LIF()},
    "reset": {"net": nn.LIF()},
    "quantize": {"net": torch.nn.Linear(4, 4), "weights": "int8", "per_channel": True, "scale": "free"},
    "fuse": {"net": torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))},
    "accelerate": {"net": torch.nn.Linear(4, 4)},
    "replace": {"net": IFNode()},
    "like": {"neuron": "spikingjelly.LIFNode"},
    "BernoulliEncoder": {},
    "LatencyEncoder": {"t_max": 9.0},
    "PoissonEncoder": {"duration": 5.0},
    "Population": FIELDS | {"max_firing_time": 9.0, "not_to_fire": 8.0},
    "PopulationEncoder": FIELDS | {"t_max": 9.0, "silent_from": 8.0},
    "RegularEncoder": {},
    "Simple": {},
    "desired_times": {"samples": 2, "beta": 250.0, "num_steps": 5},
    "from_times": {"t": [0.5, 2.0], "unit": [0, 1], "neurons": 3},
    "to_times": {"spikes": torch.ones(3, 2, 4)},
    "label_encoder": {"label": 1, "beta": 250.0, "num_classes": 3, "num_steps": 5},
    "bp_stdp_error": {"r": spikes(5, 3), "z": spikes(5, 3), "label": 1},
    "bp_stdp_loss": {"r": spikes(5, 3), "z": spikes(5, 3), "label": 1},
    "ce_rate": {"spikes": spikes(5, 2, 3), "labels": torch.tensor([0, 1])},
    "ce_count": {"spikes": spikes(5, 2, 3), "labels": torch.tensor([0, 1])},
    "ce_steps": {"x": torch.zeros(5, 2, 3), "labels": torch.tensor([0, 1])},
    "ce_time": {"spikes": spikes(5, 2, 3), "labels": torch.tensor([0, 1])},
    "ce_membrane": {"v_seq": spikes(5, 2, 3), "labels": torch.tensor([0, 1])},
    "tet": {"x": torch.zeros(5, 2, 3), "labels": torch.tensor([0, 1])},
    "mse_count": {"spikes": spikes(5, 2, 3), "labels": torch.tensor([0, 1])},
    "rate_l1": {"spikes": spikes(5, 2, 3)},
    "rate_bounds": {"spikes": spikes(5, 2, 3)},
    "first_spike": {"t": T},
    "first_spike_cross_entropy": {"t": T, "labels": torch.tensor([0, 1])},
    "revival": {"t": T, "u_max": torch.zeros(2, 2)},
    "spike_time_squared_error": {"t": T, "target": T},
    "virtual_times": {"t": T, "u_max": torch.zeros(2, 2), "t_max": 9.0},
}
# Inputs of layers and encoders.
INPUTS = {
    **dict.fromkeys(("SpikeProp", "EventProp", "EventReadout"), T),
    "Population": torch.zeros(2, 1),
    "PopulationEncoder": torch.zeros(2, 1),
    "LatencyEncoder": torch.zeros(2),
    "Delay": torch.zeros(4, 2, 3),
    "IntegerLIF": torch.zeros(3, 2, 4, dtype=torch.int32),
    **dict.fromkeys(("RatePool", "SpikeConv2d"), torch.zeros(2, 3, 4, 4)),
}
MODULES = (ops, nn, encoder, loss)
PUBLIC = {
    name: getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if not hasattr(getattr(module, name), "_fields")  # results and states
    and not dataclasses.is_dataclass(getattr(module, name))
    and name != "Time"  # takes layers only
} | {CONDUCTANCES: functools.partial(ops.diehl_cook_, synapses="conductance")}


def call(name, kwargs):
    if name == "calibrate" and kwargs["layer"] is None:
        kwargs = {**kwargs, "layer": SpikeProp(2, 3, 2)}
    result = PUBLIC[name](**kwargs)
    if isinstance(result, torch.nn.Module):
        result(INPUTS.get(name, torch.zeros(2, 4)))


def arguments(name):
    for p in inspect.signature(PUBLIC[name]).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        annotation = str(p.annotation)
        kind = next(k for k in HOSTILE if k in annotation)
        for value in HOSTILE[kind]:
            yield p.name, value


def test_every_public_function_is_tried():
    assert set(GOOD) == set(PUBLIC)


@pytest.mark.filterwarnings("ignore:.*prop. all outputs are silent", "ignore:calibrate")
@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_replaced_was_good(name):
    call(name, GOOD[name])


@pytest.mark.filterwarnings("ignore:.*prop. all outputs are silent", "ignore:calibrate")
@pytest.mark.parametrize("name", PUBLIC)
def test_error_names_the_argument(name):
    hostile = list(arguments(name))

    def check(case):
        argument, _, k = case
        with pytest.raises((TypeError, ValueError)) as caught:
            call(name, {**GOOD[name], argument: hostile[k][1]})
        message = str(caught.value)
        assert argument in message, message
        assert len(message) < 1000

    if hostile:
        check_each([(a, type(v).__name__, k) for k, (a, v) in enumerate(hostile)], check)
