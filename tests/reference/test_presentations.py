"""Presentations, for every op that takes them: no inputs, wrong events, sizes beyond the memory."""

import sys

import interpreter
import pytest
import torch
from backends import PRESENT, force
from samples import assert_equal

from snnfast import ops, plasticity, reference
from snnfast.ops import Events, Rates

CONDUCTANCES = "diehl_cook_ with conductances"  # as in backend.BY_REFERENCE
OPS = ("diehl_cook_", CONDUCTANCES)
OPERATORS = {"diehl_cook_": "diehl_cook_", CONDUCTANCES: "diehl_cook_conductance_"}


def present(name, x, inputs, device="cpu", neurons=70, **arguments):
    theta = torch.float64 if name == CONDUCTANCES else torch.float32
    w = torch.full((neurons, inputs), 8.0, device=device)
    theta = torch.full((neurons,), 20.0, dtype=theta, device=device)  # above rest
    arguments |= {"synapses": "conductance", "rest": 0.0} if name == CONDUCTANCES else {}
    return ops.diehl_cook_(x, w, theta, return_spikes=True, **arguments)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("form", ["spikes", "events", "rates"])
def test_without_inputs(backend, name, form):
    spikes = torch.zeros(17, 6, 0, device=backend.device)
    seeds = torch.arange(17, device=backend.device)
    x = {
        "spikes": spikes,
        "events": Events.from_dense(spikes),
        "rates": Rates(torch.zeros(17, 0, device=backend.device), 6, seeds),
    }[form]
    result = present(name, x, 0, backend.device)
    assert result.counts.shape == (17, 70)
    assert not result.spikes.any()


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("inputs", [0, 2])
@pytest.mark.parametrize("backend", ["reference", *(n for n in PRESENT if n != "cuda")])
def test_more_steps_than_can_be_counted(name, inputs, backend):
    hz, seeds = torch.zeros(1, inputs), torch.zeros(1, dtype=torch.int64)
    with force(backend), pytest.raises(ValueError, match=r"^diehl_cook_: ") as caught:
        present(name, Rates(hz, 2**62, seeds), inputs)
    assert str(caught.value) == (
        "diehl_cook_: a presentation must have fewer than 2**31 elements, got 4611686018427387904 steps of "
        f"{inputs} inputs"
    )


@pytest.mark.parametrize("name", OPS)
def test_strides_of_spikes(kernels, name):
    spikes = (torch.rand(3, 9, 12, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    spikes = (3 * spikes).to(kernels.device)
    arguments = {"inputs": 12, "device": kernels.device, "theta_plus": 0.5}
    wanted = present(name, spikes, **arguments).spikes
    assert wanted.any()
    views = (
        spikes.transpose(0, 1).clone().transpose(0, 1),
        spikes.transpose(0, 2).clone().transpose(0, 2),
        torch.cat((spikes, spikes), 2)[:, :, :12],
    )
    for view in views:
        torch.testing.assert_close(present(name, view, **arguments).spikes, wanted, rtol=0, atol=0)
    once = spikes[:1].expand(3, 9, 12)
    torch.testing.assert_close(
        present(name, once, **arguments).spikes, present(name, once.clone(), **arguments).spikes, rtol=0, atol=0
    )


# P = 2, T = 3, I = 5
WRONG = {
    "input beyond the last": ([0, 5, 1], [[0, 2, 2, 3], [3, 3, 3, 3]]),
    "input far beyond": ([2**31 - 1, 0, 1], [[0, 1, 2, 3], [3, 3, 3, 3]]),
    "input below 0": ([-1, 3, 1], [[0, 2, 2, 3], [3, 3, 3, 3]]),
    "input far below 0": ([-(2**31), 3, 1], [[0, 2, 2, 3], [3, 3, 3, 3]]),
    "offset beyond the last": ([0, 1, 2], [[0, 1, 2, 3], [3, 4, 2**40, 2**40]]),
    "offset below 0": ([0, 1, 2], [[-(2**40), 1, 2, 3], [3, 3, 3, 3]]),
    "offsets descend": ([0, 1, 2], [[0, 3, 1, 3], [3, 3, 3, 3]]),
    "inputs descend": ([2, 1, 0], [[0, 3, 3, 3], [3, 3, 3, 3]]),
    "more than there are inputs": ([3] * 4096, [[0, 4096, 4096, 4096], [0, 0, 0, 4096]]),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("wrong", WRONG)
def test_unchecked_events_reach_nothing_else(kernels, name, wrong):
    inputs, offsets = WRONG[wrong]
    x = Events(
        torch.tensor(inputs, dtype=torch.int32, device=kernels.device), torch.tensor(offsets, device=kernels.device)
    )
    if kernels.name != "cpu":
        present(name, x, 5, kernels.device, validate=False)
        return
    message = "offsets must ascend" if "offset" in wrong else "inputs must ascend within a step"
    with pytest.raises(RuntimeError, match=f"^{OPERATORS[name]}: {message}"):
        present(name, x, 5, validate=False)


@pytest.mark.parametrize("networks", [(), (2,)])
@pytest.mark.parametrize("name", OPS)
def test_without_neurons_the_traces_of_the_inputs_change(backend, name, networks):
    spikes = torch.rand(2, 20, 5, device=backend.device) < 0.3
    results = []
    for module in (ops, reference):
        w = torch.zeros(*networks, 0, 5, device=backend.device)
        dtype = torch.float64 if name == CONDUCTANCES else torch.float32
        theta = torch.zeros(*networks, 0, dtype=dtype, device=backend.device)
        rule = plasticity.pair(1e-3, 1e-3, trace="nearest")
        rest = {"synapses": "conductance", "rest": 0.0} if name == CONDUCTANCES else {}
        results.append(module.diehl_cook_(spikes, w, theta, rule=rule, return_state=True, **rest))
    got, want = results
    assert got.counts.shape == (*networks, 2, 0)
    assert want.state.trace_pre.any()
    assert_equal(list(got.state), list(want.state))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
@pytest.mark.parametrize("name", OPS)
def test_an_error_inside_the_operator_says_what_happened(name):
    """The error, memory for 2 10^9 steps, comes from a thread across PyTorch's stable ABI."""
    code = (
        "import resource, torch\n"
        "from snnfast import ops\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "x = ops.Rates(torch.rand(3, 1), 2 * 10**9, torch.arange(3))\n"
        f"synapses = {'conductance' if name == CONDUCTANCES else 'current'!r}\n"
        "dtype = torch.float64 if synapses == 'conductance' else torch.float32\n"
        "try:\n"
        "    ops.diehl_cook_(x, torch.rand(4, 1), torch.zeros(4, dtype=dtype), synapses=synapses)\n"
        "except RuntimeError as error:\n"
        "    print(str(error).splitlines()[0])\n"
    )
    found = interpreter.python(code)
    assert "no memory for a tensor of shape [" in found.stdout
    assert "parallel_for" not in found.stdout
