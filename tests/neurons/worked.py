"""Short runs worked by hand: outputs and gradients, exact in binary.

All runs have ``ds/dh = 1`` (straight through). The losses weight the spikes (of a readout: the membranes) of the three
steps by 1, 2 and 4, the last membrane by 4, and the other state after the last step by 8.
"""

import inspect

import pytest
import torch
from samples import over_neurons

import neurons
from snnfast import ops, reference


@over_neurons("op run", lambda op: [(op, run) for run in op.worked])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_outputs_and_gradients_are_those_worked_by_hand(backend, op, run, dtype):
    case = op.worked[run]

    def tensor(value):
        return torch.tensor(value, dtype=dtype, device=backend.device)

    inputs = {k: tensor(v).requires_grad_() for k, v in case["inputs"].items()}
    surrogate = {"surrogate": "straight_through"} if op.fires else {}
    outputs = op(**inputs, **case["options"], **surrogate)
    assert [out.tolist() for out in outputs] == case["outputs"]
    weights = [tensor([1.0, 2.0, 4.0]), tensor(4.0), tensor(8.0)]
    loss = sum((w * out).sum() for w, out in zip(weights, outputs, strict=False))
    grads = torch.autograd.grad(loss, list(inputs.values()))
    got = {k: g.tolist() for k, g in zip(inputs, grads, strict=True)}
    assert got == case["gradients"]


def test_a_run_is_worked_by_hand(op):
    """Every neuron has at least one run, with the gradients of all states and decays."""
    assert {*op.states, *op.decays} <= {k for run in op.worked.values() for k in run["gradients"]}


def test_signature_is_pinned(op):
    """A change of the signature affects users, and needs a line in the changelog."""
    for place in (ops, reference):
        signature = inspect.signature(getattr(place, op.name))
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == f"({op.signature})"


def test_what_the_tests_know_of_its_arguments_is_what_it_has(op):
    """States, decays and parameters of :class:`samples.Op` equal those of the op, so that all are tested."""
    options = {"surrogate", "detach_reset", "decay_input", "return_state", "return_v_seq"}
    options |= {"strict", "refractory", "r", "max_spikes"}
    taus = [decay.replace("decay", "tau") for decay in op.decays]
    known = ["x", *op.states, *op.decays, *taus, *op.params, *op.options]
    arguments = set(inspect.signature(getattr(ops, op.name)).parameters) - options
    assert sorted(known) == sorted(arguments)
    assert {*op.voltages} <= arguments
    assert set(op.steady) <= arguments


def test_no_shared_test_is_replaced(request):
    """No test of the file has the name of a shared test."""
    for name in neurons.__all__:
        assert getattr(request.module, name) is getattr(neurons, name), name
