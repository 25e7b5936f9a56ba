"""The presets against traces of the libraries they are named for (tests/recorded.py)."""

import pytest
import torch
from cases import check_each
from recorded import inputs_of, recorded

from snnfast import nn as sn
from snnfast.nn.own_neuron import OwnLayer

TRACES = {
    "spikingjelly_lif": "spikingjelly.LIFNode",
    "spikingjelly_if": "spikingjelly.IFNode",
    "spikingjelly_qif": "spikingjelly.QIFNode",
    "spikingjelly_eif": "spikingjelly.EIFNode",
    "spikingjelly_izhikevich": "spikingjelly.IzhikevichNode",
    "snntorch_leaky": "snntorch.Leaky",
    "snntorch_leaky_strong_input": "snntorch.Leaky",
    "norse_lif_box": "norse.LIFBoxCell",
    "spikingjelly_klif": "spikingjelly.KLIFNode",
    "spikingjelly_clif": "spikingjelly.ComplementaryLIFNode",
    "spikingjelly_ilif": "spikingjelly.ILIFNode",
    "spikingjelly_raf": "spikingjelly.RAFNode",
    "spikingjelly_ternary": "spikingjelly.TernaryLIFNode",
    "norse_lif_ex": "norse.LIFExCell",
    "norse_lif_adex": "norse.LIFAdExCell",
    "norse_lif_refrac": "norse.LIFRefracCell",
    "norse_lif_adex_refrac": "norse.LIFAdExRefracCell",
}


def arguments(settings):
    options = dict(settings)
    surrogate = options.pop("surrogate_function", None)
    return options | ({} if surrogate is None else {"surrogate": surrogate.lower()})


def replay(trace, neuron, case, dtype):
    settings = case["settings"]
    x, v0, weights = inputs_of(trace, dtype)
    x.requires_grad_()
    v0.requires_grad_()
    layer = sn.like(neuron, **arguments(settings), stateful=True, return_v_seq=True)
    delayed = settings.get("reset_delay") and settings["reset_mechanism"] == "subtract"
    layer.v = v0 + layer.v_rest if delayed else v0
    spikes, v_seq = layer(x)
    (weights * spikes).sum().backward()
    return spikes.detach(), v_seq.detach(), x.grad, v0.grad


def compare(trace, neuron, case):
    spikes, v_seq, grad_x, grad_v0 = replay(trace, neuron, case, torch.float64)
    # Without delay snnTorch casts its spikes to float32 inside.
    rounded = case["settings"].get("reset_delay") is False
    tolerance = {"rtol": 0, "atol": 1e-6 if rounded else 1e-12}
    assert spikes.long().tolist() == case["spikes"]
    for ours, theirs in ((v_seq, "v_seq"), (grad_x, "grad_x"), (grad_v0, "grad_v0")):
        torch.testing.assert_close(ours, torch.tensor(case[theirs], dtype=torch.float64), **tolerance)


def compare_spikes_in_float32(trace, neuron, case):
    spikes, *_ = replay(trace, neuron, case, torch.float32)
    ours, theirs = spikes.long(), torch.tensor(case["spikes"])
    # Where the decay is not exact, float32 may round a membrane on the threshold to either side.
    if case["settings"].get("beta") == 0.9 or case["settings"].get("tau_mem_inv") == 800.0:
        for b, n in case["on_threshold"]:
            ours[:, b, n] = theirs[:, b, n]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", TRACES)
def test_preset_reproduces_every_case_of_the_trace(name):
    """Compare spikes also in float32, except for step functions, which take seconds to compile for another dtype."""
    trace, neuron = recorded(name), TRACES[name]
    check_each(range(len(trace["cases"])), lambda k: compare(trace, neuron, trace["cases"][k]))
    if not isinstance(sn.like(neuron, **arguments(trace["cases"][0]["settings"])), OwnLayer):
        for case in trace["cases"]:
            compare_spikes_in_float32(trace, neuron, case)


def test_parametric_lif_reproduces_spikingjelly():
    trace = recorded("spikingjelly_plif")
    x, v0, weights = inputs_of(trace)
    x.requires_grad_()
    for case in trace["cases"]:
        layer = sn.like(
            "spikingjelly.MultiStepParametricLIFNode", **arguments(case["settings"]), stateful=True
        ).double()
        layer.v = v0
        assert type(layer) is sn.ParametricLIF
        spikes = layer(x)
        (grad,) = torch.autograd.grad((weights * spikes).sum(), x)
        assert spikes.long().tolist() == case["spikes"]
        expected = torch.tensor(case["grad_x"], dtype=torch.float64)
        torch.testing.assert_close(grad, expected, rtol=0, atol=1e-6)


def test_strict_threshold_is_above_and_keeps_its_gradient():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.tensor([[1.0, 1.0078125]], dtype=dtype)
        threshold = torch.nn.Parameter(torch.ones(2))
        layer = sn.LIF(decay=0.5, decay_input=False, v_threshold=threshold, strict=True)
        spikes = layer(x)
        assert spikes.tolist() == [[0.0, 1.0]]
        spikes.sum().backward()
        assert (threshold.grad < 0).all()
        assert sn.LIF(decay=0.5, decay_input=False)(x).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("neuron", "settings", "error", "message"),
    [
        ("brian2.LIF", {}, ValueError, "like: neuron must be one of spikingjelly.LIFNode"),
        ("snntorch.Leaky", {"beta": 0.9, "reset_mechanism": "none"}, ValueError, "'none'"),
        ("snntorch.Leaky", {"beta": 0.0}, ValueError, r"beta must lie in \(0, 1\]"),
        (
            "snntorch.Leaky",
            {"beta": 0.9, "learn_beta": True},
            TypeError,
            r"^like: snntorch.Leaky: got an unexpected .*'learn_beta'; it has beta, threshold, ",
        ),
        ("snntorch.Leaky", {}, TypeError, r"^like: snntorch.Leaky: missing .* 'beta'; it has beta"),
        (
            "spikingjelly.IFNode",
            {"surrogate_function": "atan"},
            TypeError,
            r"^like: spikingjelly.IFNode: .*'surrogate_function'; it has v_threshold, .*surrogate,",
        ),
        ("spikingjelly.LIFNode", {"tau": 0.5}, ValueError, "tau must be at least 1"),
        ("norse.LIFBoxCell", {"dt": 1.0}, ValueError, "decay must lie in"),
    ],
)
def test_what_a_preset_does_not_support_raises(neuron, settings, error, message):
    with pytest.raises(error, match=message):
        sn.like(neuron, **settings)


@pytest.mark.parametrize("reset_mechanism", ["subtract", "zero"])
def test_the_membrane_of_snntorch_is_that_before_its_reset(reset_mechanism):
    """Compare with its equation ``U[t+1] = beta U[t] + x[t+1] - R[t]``, R without gradient."""
    layer = sn.like("snntorch.Leaky", beta=0.75, reset_mechanism=reset_mechanism, return_v_seq=True)
    results = []
    for ours in (True, False):
        x = torch.linspace(-1, 3, 40, dtype=torch.float64).sin().mul(2).view(20, 2)
        x.requires_grad_()
        if ours:
            spikes, membranes = layer(x)
        else:
            u, rows = torch.zeros(2, dtype=torch.float64), []
            for x_t in x:
                fired = (u > 1.0).to(u)
                zero = reset_mechanism == "zero"
                u = 0.75 * ((1 - fired) * u) + x_t if zero else 0.75 * u + x_t - fired
                rows.append(u)
            membranes = torch.stack(rows)
            spikes = (membranes > 1.0).to(u)
        weights = torch.arange(40.0, dtype=torch.float64).cos().view(20, 2)
        (gradient,) = torch.autograd.grad((weights * membranes).sum(), x)
        results.append((spikes, membranes, gradient))
    assert 0 < results[1][0].mean() < 1
    for a, b in zip(*results):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-12)
