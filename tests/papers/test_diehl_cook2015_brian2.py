"""The network of Diehl and Cook with conductances against Brian2, recorded by a script of commit 5a1e4ba2."""

import json
from pathlib import Path

import torch

from snnfast import ops
from snnfast.plasticity import triplet

TRACES = Path(__file__).parent / "traces"
RECORD = json.loads((TRACES / "brian2_diehl_cook.json").read_text())
FINE = json.loads((TRACES / "brian2_diehl_cook_fine.json").read_text())


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def run(dt, state=None, steps=None):
    """Run the recorded presentation, or its first ``steps``; return the result, weights and thresholds."""
    finer = round(RECORD["dt"] / dt)
    period = RECORD["image_steps"] + round(RECORD["rest"] / RECORD["dt"])
    w, delays = double(RECORD["weights"]), torch.tensor(RECORD["delays"], dtype=torch.uint8)
    presentation, step, source = torch.tensor(RECORD["inputs"]).T
    x = torch.zeros((1, 3 * period * finer, w.shape[1]), dtype=torch.bool)
    x[0, (presentation * period + step) * finer, source] = True
    theta = torch.full(w.shape[:1], RECORD["theta"], dtype=torch.float64)
    result = ops.diehl_cook_(
        x,
        w,
        theta,
        synapses="conductance",
        rule=triplet(**RECORD["rule"]),
        delays=delays * finer,
        dt=dt,
        rest=0.0,
        return_spikes=True,
        return_state=True,
        **RECORD["constants"],
    )
    return result, w, theta


def test_same_spikes_weights_and_thresholds():
    result, w, theta = run(RECORD["dt"])
    assert len(RECORD["spikes"]) == 17  # so that there is something to compare
    assert result.spikes[0].nonzero().tolist() == RECORD["spikes"]
    torch.testing.assert_close(w, double(RECORD["final_weights"]), rtol=0, atol=1e-12)
    torch.testing.assert_close(theta, double(RECORD["final_theta"]), rtol=0, atol=1e-9)
    assert (w - double(RECORD["weights"])).abs().max() > 0.05


def test_same_membranes_and_conductances():
    """The network runs step by step, with the state passed from call to call."""
    w, delays = double(RECORD["weights"]), torch.tensor(RECORD["delays"], dtype=torch.uint8)
    theta = torch.full(w.shape[:1], RECORD["theta"], dtype=torch.float64)
    period = RECORD["image_steps"] + round(RECORD["rest"] / RECORD["dt"])
    every = RECORD["every"]
    presentation, step, source = torch.tensor(RECORD["inputs"]).T
    x = torch.zeros((3 * period, w.shape[1]), dtype=torch.bool)
    x[presentation * period + step, source] = True
    settings = {
        "synapses": "conductance",
        "rule": triplet(**RECORD["rule"]),
        "delays": delays,
        "dt": RECORD["dt"],
        "rest": 0.0,
        "return_state": True,
        **RECORD["constants"],
    }
    # The record holds the first of every few steps.
    state = ops.diehl_cook_(x[None, :0], w, theta, **settings).state
    state = ops.diehl_cook_(x[None, :1], w, theta, state=state, **settings).state
    for sample in range(len(RECORD["v"])):
        for name in ("v", "g_exc", "g_inh", "v_inh"):
            expected = double(RECORD[name][sample])
            torch.testing.assert_close(getattr(state, name), expected, rtol=0, atol=2e-9)
        torch.testing.assert_close(theta, double(RECORD["theta_trace"][sample]), rtol=0, atol=2e-9)
        begin = 1 + sample * every
        part = x[None, begin : begin + every]
        state = ops.diehl_cook_(part, w, theta, state=state, **settings).state


def test_a_finer_step_gives_the_spikes_of_runge_kutta():
    result, _, _ = run(FINE["dt"])
    assert len(FINE["spikes"]) == 14
    assert result.spikes[0].nonzero().tolist() == FINE["spikes"]
