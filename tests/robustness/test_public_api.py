"""The public names and signatures. A change here is a change for users: it needs a line in the changelog."""

import importlib
import inspect
import pkgutil

import plain_jelly
import pytest
import samples
from cases import in_one_test
from interpreter import python

import snnfast
import snnfast_zoo
from snnfast.reference.neuron_arguments import NEURONS

NAMES = {
    "snnfast": (
        "backend build_info checkpoint connect conversion conversion_report convert data encoder export export_c "
        "learning load loss memory model monitor monitoring neuron nir nn ops optimizer papers plasticity ports "
        "procedure reference surrogate testing threshold train visual visualizer"
    ),
    "snnfast.checkpoint": "CheckpointError",
    "snnfast.connect": (
        "Connectivity Part PoissonNoise concatenate fixed_indegree fixed_outdegree fixed_probability fixed_total "
        "from_blocks from_dense from_edges from_torch one_to_one"
    ),
    "snnfast.conversion": (
        "METHODS QCFS ConversionReport LayerReport Neurons ProductReport SpikingNetwork Stream "
        "conversion_report convert fine_tune quantise thresholds_from_activations thresholds_from_currents"
    ),
    "snnfast.export": "CExport CLayer Expanded Loss Step expand export_c integer",
    "snnfast.monitoring": "Activity Monitor NeuronActivity ProductActivity Tally monitor",
    "snnfast.nir": "Graph Offset Scale SumPool2d Threshold TwoLI from_nir read to_nir write",
    "snnfast.procedure": (
        "ConversionResult Procedure Result Simulation SimulationResult Trained bp_stdp brunel connectome convert "
        "diehl2015 load microcircuit sequence spikeprop spiking_vgg stbp stdp vgg16 vogels_abbott"
    ),
    "snnfast.threshold": "activation_based spikenorm",
    "snnfast.encoder": (
        "BernoulliEncoder LatencyEncoder PoissonEncoder PopulationEncoder RegularEncoder "
        "desired_times from_times label_encoder to_times Population Recorded Simple"
    ),
    "snnfast.learning": "OTTT STDP Assignment BpStdp EProp SpikePropDescent assign_labels predict",
    "snnfast.model": (
        "Bohte2002 Diehl2015 DiehlAndCook2015 ResNet20 SNN_Diehl2015 SequenceNetwork SpikingVGG SResNet20 SVGG16 "
        "TavanaeiAndMaida2017 TravanaeiAndMaida2017 VGG16 Wu2018"
    ),
    "snnfast.optimizer": "Bohte TavanaeiAndMaida",
    "snnfast.papers": (
        "Bohte2002 Diehl2015 DiehlAndCook2015 ResNet20 SNN_Diehl2015 SequenceNetwork SpikingVGG SResNet20 SVGG16 "
        "TavanaeiAndMaida2017 VGG16 Wu2018"
    ),
    "snnfast.ports": "like replace",
    "snnfast.visual": (
        "Live confusion conversion curves histograms potentials raster rasters receptive_fields save "
        "show_weights spike_times traces"
    ),
    "snnfast.visualizer": "plot",
    "snnfast.plasticity": (
        "Constants Online OwnRule Rule Synapses exponential pair power_law pre_post reward_modulated soft_bounds "
        "triplet"
    ),
    "snnfast.ops": (
        "DiehlCookResult DiehlCookState "
        "Events Rates SpikeEvents StdpState BpStdpNetworkResult "
        "batch_norm bp_stdp_ bp_stdp_network_ delay diehl_cook_ eventprop integer_lif poisson "
        "pool2d recurrent sparse_linear sparse_recurrent sparse_stdp_ spike_conv2d spike_count spike_linear spikeprop "
        f"stdp_ {' '.join(NEURONS)}"
    ),
    "snnfast.reference": (
        "batch_norm bp_stdp_ bp_stdp_network_ delay diehl_cook_ eventprop integer_lif poisson "
        "pool2d recurrent sparse_linear sparse_recurrent sparse_stdp_ spike_conv2d spike_count spike_linear spikeprop "
        f"stdp_ {' '.join(NEURONS)}"
    ),
    "snnfast.surrogate": ("Surrogate atan fast_sigmoid gaussian rectangle resolve sigmoid straight_through triangle"),
    "snnfast.backend": "BackendError BackendWarning explain use",
    "snnfast.memory": "Statistics keep_freed_memory release set_limit statistics",
    "snnfast.testing": "assert_spikes_close load_cuda_emulation",
}
# Signatures of ops other than neurons, whose tests have theirs. Positional arguments before the star, keywords after.
SIGNATURES = {
    "eventprop": (
        "t_in, w, w_rec=None, *, delays=None, delays_rec=None, tau_mem, tau_syn, v_threshold=1.0, t_max, "
        "max_spikes=16, stops=False, slope_min=0.05, return_u_max=False, return_slope=False, validate=True"
    ),
    "spikeprop": (
        "t_in, w, delays, *, tau, v_threshold=1.0, t_max, dt=None, slope_min=0.05, "
        "return_u_max=False, return_slope=False, validate=True"
    ),
    "stdp_": (
        "w, pre, post, *, rule, dt=1.0, state=None, reward=None, reduction='sum', update='step', "
        "norm=None, validate=True, **signals"
    ),
    "bp_stdp_": (
        "w, pre, error, *, lr=0.0005, epsilon=4, update='step', reduction='sum', return_error=True, validate=True"
    ),
    "bp_stdp_network_": (
        "weights, x, labels=None, desired=None, *, thresholds, dt=1.0, lr=0.0005, epsilon=4, "
        "update='step', reduction='sum', batch=None, state=None, return_hidden=False, "
        "return_state=False, validate=True"
    ),
    "diehl_cook_": (
        "x, w, theta, *, synapses='current', rule=None, norm=None, state=None, dt=None, tau=100.0, v_threshold=None, "
        "v_reset=None, refractory=5.0, theta_plus=0.05, tau_theta=None, inhibition=None, inhibition_delay=None, "
        "one_winner=None, delays=None, longest_delay=None, rest=None, v_rest=None, tau_inh=None, v_rest_inh=None, "
        "v_reset_inh=None, v_threshold_inh=None, refractory_inh=None, tau_g_exc=None, tau_g_inh=None, e_exc=None, "
        "e_inh=None, w_exc_inh=None, w_inh_exc=None, return_spikes=False, return_state=False, validate=True"
    ),
    "batch_norm": "x, weight=None, bias=None, mean=None, var=None, *, eps=1e-05",
    "integer_lif": ("x, v=None, *, gain, bias, decay=16384, v_threshold=16777216, v_reset=0, limit=1073741823"),
    "pool2d": "x, kernel, *, method='max'",
    "spike_conv2d": "x, weight, bias=None, *, stride=1, padding=0, method='auto'",
    "delay": "x, d, past=None, *, sigma=0.0",
    "recurrent": "x, weight, past=None, *, neuron='lif', delay=None, **arguments",
    "sparse_recurrent": (
        "x, weight, connectivity, past=None, *, neuron='lif', num_steps=None, batch=None, noise=None, "
        "record='spikes', part=None, plasticity=None, **arguments"
    ),
    "sparse_linear": "x, weight, connectivity",
    "sparse_stdp_": (
        "w, pre, post, connectivity, *, rule, dt=1.0, state=None, reward=None, reduction='sum', update='step', "
        "norm=None, sources=None, validate=True, **signals"
    ),
    "spike_count": "x, v=None, count=None, *, v_threshold=1.0, v_reset=None",
    "spike_linear": "x, weight, bias=None, *, method='auto'",
    "poisson": ("p, num_steps, *, generator=None, seed=None, dtype=torch.float32, validate=True"),
}
# The functions that create rules of plasticity; all end with the arguments of every rule.
RULES = {
    "pair": "lr_pre=0.0001, lr_post=0.01, *, tau_pre=20.0, tau_post=20.0",
    "soft_bounds": "lr_pre=0.0001, lr_post=0.01, *, tau_pre=20.0, tau_post=20.0",
    "power_law": "lr=0.01, *, x_tar=0.4, mu=0.2, tau_pre=20.0",
    "exponential": "lr=0.01, *, x_tar=0.4, beta=1.0, tau_pre=20.0",
    "pre_post": "lr_pre=0.0001, lr_post=0.01, *, x_tar=0.4, mu=0.2, tau_pre=20.0, tau_post=20.0",
    "triplet": (
        "lr_pre=0.0001, lr_post=0.01, *, lr_pre_triplet=0.0, lr_post_pair=0.0, "
        "tau_pre=20.0, tau_post=20.0, tau_pre2=40.0, tau_post2=40.0"
    ),
}


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_pinned(module):
    assert sorted(importlib.import_module(module).__all__) == sorted(NAMES[module].split())


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_pinned(name):
    signature = inspect.signature(getattr(snnfast.ops, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[name]})"


@pytest.mark.parametrize("name", RULES)
def test_rules_have_their_pinned_signature_and_document_every_argument(name):
    rule = getattr(snnfast.plasticity, name)
    parameters = inspect.signature(rule).parameters.values()
    bare = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])
    assert str(bare) == f"({RULES[name]}, trace='nearest', w_min=0.0, w_max=1.0)"
    assert all(f"    {p.name}: " in rule.__doc__ for p in parameters)
    assert rule.__name__ == name
    assert isinstance(rule(), snnfast.plasticity.Rule)


def test_every_op_has_a_pinned_signature():
    pinned = [*SIGNATURES, *(op.name for op in samples.neurons())]
    assert sorted(pinned) == sorted(name for name in snnfast.ops.__all__ if name.islower())


def test_import_gives_every_public_module_and_loads_no_figures_data_or_commands():
    code = (
        "import sys, snnfast\n"
        "slow = {'matplotlib', 'torchvision', 'typer', 'snnfast_zoo', 'snnfast.model', 'snnfast.data'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "assert set(snnfast.__all__) <= set(dir(snnfast))\n"
        "for name in snnfast.__all__: getattr(snnfast, name)\n"
        "assert snnfast.visual is sys.modules['snnfast.visual']\n"
        "assert snnfast.convert is snnfast.conversion.convert\n"
        "try: snnfast.no_such\n"
        "except AttributeError as error: print(error)\n"
    )
    assert python(code).stdout == "module 'snnfast' has no attribute 'no_such'\n"


MODULES = [
    *("snnfast", "snnfast_zoo"),
    *(m.name for m in pkgutil.walk_packages([*snnfast.__path__], "snnfast.")),
    *(m.name for m in pkgutil.walk_packages(snnfast_zoo.__path__, "snnfast_zoo.")),
]
MODULES = [m for m in MODULES if not m.rpartition(".")[2].startswith("_")]


@in_one_test("module", MODULES)
def test_public_names_exist_and_are_documented(module):
    with plain_jelly.modules():  # snnfast.ports.clock_driven adds to sys.modules
        loaded = importlib.import_module(module)
    assert loaded.__doc__
    for name in getattr(loaded, "__all__", ()):
        value = getattr(loaded, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name} has no docstring"
