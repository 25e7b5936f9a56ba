"""``cuba``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

from hypothesis import given
from neurons import *  # noqa: F403
from neurons.properties import runs, wide_dtypes
from neurons.values import INF, run
from samples import Op, Values, assert_equal
from variants import FIRING, LEAKY, LEAKY_FIRING, REFRACTORY

from snnfast import ops

SYNAPTIC = {
    "tau_syn": {"tau_syn": 4.5},
    "decay_syn_0": {"decay_syn": 0.0},
    "decay_syn_1": {"decay_syn": 1.0},
    "decay_syn_each": {"decay_syn": Values(0.0, 1.0)},
    "both_decays_channel": {"decay": Values(0.0, 1.0, "channel"), "decay_syn": Values(0.0, 1.0, "last")},
    "tau_syn_scalar": {"tau_syn": Values(1.5, 5.0, "scalar"), "decay_input": False},
    "return_state": {"return_state": False},
}
# Decays 1/2, threshold 1: i = 1, 0.5, 0.25;  h = 1 (fires), 0.5, 0.5;  v = 0, 0.5, 0.5;  dv/dh = -1, 0.5, 0.5
#   dL/dh = 4 + 2 = 6;  2 + 3 * 0.5 = 3.5;  1 - 1.75 = -0.75
#   dL/di = 8 + 6 = 14;  7 + 3.5 = 10.5;  5.25 - 0.75 = 4.5
#   dL/ddecay = 6 * 0.5;  dL/ddecay_syn = 14 * 0.5 + 10.5 * 1;  dL/ds = 4 - 2, 2 - 1.5, 1 - 1.75
CURRENT = {
    "inputs": {"x": [1.0, 0.0, 0.0], "v": 0.0, "i": 0.0, "decay": 0.5, "decay_syn": 0.5, "v_threshold": 1.0},
    "options": {"decay_input": False},
    "outputs": [[1, 0, 0], 0.5, 0.25],
    "gradients": {
        "x": [4.5, 10.5, 14.0],
        "v": -0.375,
        "i": 2.25,
        "decay": 3.0,
        "decay_syn": 17.5,
        "v_threshold": -1.75,
    },
}


def written(n, x, v, i):
    i = (1 - 1 / n.tau_syn) * i + x
    s, v = n.fire(n.rest + n.decay * (v - n.rest) + n.gain * i)
    return s, v, i


CUBA = Op(
    name="cuba",
    kernel="cuba",
    signature=(
        "x, v=None, i=None, *, tau=None, decay=None, tau_syn=None, decay_syn=None, "
        "decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, refractory=0, r=None, max_spikes=1, surrogate='atan', "
        "detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v", "i"),
    decays=("decay", "decay_syn"),
    params=("v_threshold", "v_reset", "v_rest"),
    voltages=("v", "i", "v_threshold", "v_reset", "v_rest"),
    variants={"plain": {}, **LEAKY, **FIRING, **LEAKY_FIRING, **SYNAPTIC, **REFRACTORY},
    written=written,
    written_for=[{"tau": tau, "tau_syn": 3.3} for tau in (1.0, 2.0, 7.3)],
    worked={"current": CURRENT},
)
# Decays 1/2, no spikes: i = 2, 2, 3;  v = 4, 4, 5;  the membranes of the steps weigh 1, 2, 4, the last 4 more, i 8
#   dL/dv = 8;  2 + 4 = 6;  1 + 3 = 4;  dL/di = dL/dx = 8 + 8 = 16;  6 + 8 = 14;  4 + 7 = 11
#   dL/ddecay = 4 * 4 + 6 * 4 + 8 * 4;  dL/ddecay_syn = 11 * 2 + 14 * 2 + 16 * 2
READOUT = {
    "inputs": {"x": [1.0, 1.0, 2.0], "v": 4.0, "i": 2.0, "decay": 0.5, "decay_syn": 0.5},
    "options": {"decay_input": False},
    "outputs": [[4.0, 4.0, 5.0], 5.0, 3.0],
    "gradients": {"x": [11.0, 14.0, 16.0], "v": 2.0, "i": 5.5, "decay": 72.0, "decay_syn": 82.0},
}
CUBALI = Op(
    name="cubali",
    kernel="cuba",
    signature=(
        "x, v=None, i=None, *, tau=None, decay=None, tau_syn=None, decay_syn=None, decay_input=True, v_rest=0.0"
    ),
    states=("v", "i"),
    decays=("decay", "decay_syn"),
    params=("v_rest",),
    voltages=("v", "i", "v_rest"),
    fires=False,
    variants={"plain": {}, **LEAKY, **{name: options for name, options in SYNAPTIC.items() if name != "return_state"}},
    worked={"readout": READOUT},
)
NEURONS = (CUBA, CUBALI)


def test_infinite_current_keeps_a_synapse_infinite_and_the_neuron_firing(backend):
    spikes, v_seq = run(CUBA, [INF, 0.0, 0.0], backend.device)
    assert spikes == [1, 1, 1]
    assert v_seq.tolist() == [0.0, 0.0, 0.0]


@given(runs(CUBA, wide_dtypes))
def test_current_without_memory_is_lif(arguments):
    """With ``decay_syn = 0`` and no initial current, the current is the input."""
    for name in ("tau_syn", "i"):
        arguments.pop(name, None)
    arguments["decay_syn"] = 0.0
    spikes, v, i, v_seq = ops.cuba(**arguments)
    del arguments["decay_syn"]
    assert_equal([spikes, v, v_seq], list(ops.lif(**arguments)))
    if len(arguments["x"]):
        assert_equal(i, arguments["x"][-1])
