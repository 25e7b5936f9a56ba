"""The reference against the equations written out for one neuron, one step at a time, in Python floats."""

import math

import pytest
import torch
from samples import OPS, Sample


def lif(x, v, decay, gain, threshold, v_reset, v_rest):
    spikes, v_seq = [], []
    for x_t in x:
        h = v_rest + decay * (v - v_rest) + gain * x_t
        s = float(h >= threshold)
        v = h if not s else h - threshold if v_reset is None else v_reset
        spikes.append(s)
        v_seq.append(v)
    return spikes, v_seq


def cuba(x, v, i, decay, decay_syn, gain, threshold, v_reset, v_rest):
    currents = []
    for x_t in x:
        i = decay_syn * i + x_t
        currents.append(i)
    return *lif(currents, v, decay, gain, threshold, v_reset, v_rest), i


@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("v_rest", [None, 0.3])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [1.0, 2.0, 7.3])
def test_reference_follows_the_equations(v_reset, v_rest, decay_input, tau):
    x = Sample(OPS["lif"], "plain", (50, 3), torch.float64).arguments()["x"]
    v, i = torch.tensor([0.1, 0.2, -0.3]).double(), torch.tensor([0.3, 0.0, -1.0]).double()
    decay, decay_syn = 1 - 1 / tau, 1 - 1 / 3.3
    gain = 1 - decay if decay_input else 1.0
    rest = v_rest if v_rest is not None else v_reset or 0.0
    options = {"tau": tau, "decay_input": decay_input, "v_threshold": 0.8}
    options |= {"v_reset": v_reset, "v_rest": v_rest, "return_v_seq": True}
    got = OPS["lif"].reference(x=x, v=v, **options)
    got_cuba = OPS["cuba"].reference(x=x, v=v, i=i, tau_syn=3.3, **options)
    for n in range(3):
        columns = [seq[:, n].tolist() for seq in (got[0], got[2])]
        assert columns == list(lif(x[:, n].tolist(), v[n].item(), decay, gain, 0.8, v_reset, rest))
        *columns, current = cuba(
            x[:, n].tolist(), v[n].item(), i[n].item(), decay, decay_syn, gain, 0.8, v_reset, rest
        )
        assert [seq[:, n].tolist() for seq in (got_cuba[0], got_cuba[3])] == columns
        assert got_cuba[2][n].item() == current
    assert torch.equal(got[1], got[2][-1])
    assert torch.equal(got_cuba[1], got_cuba[3][-1])


def test_integrator_reaches_the_constant_it_is_driven_with():
    _, v = OPS["li"].reference(x=torch.full((400, 2), 0.7, dtype=torch.float64), tau=5.0)
    assert v.tolist() == [pytest.approx(0.7, abs=1e-12)] * 2


def test_firing_rate_is_that_of_the_closed_form():
    """Constant drive ``I`` from 0: ``v = I (1 - decay^n)`` reaches the threshold after ``n`` steps."""
    drive, tau = 1.7, 9.0
    period = math.ceil(math.log(1 - 1 / drive) / math.log(1 - 1 / tau))
    spikes, _ = OPS["lif"].reference(x=torch.full((period * 20, 1), drive).double(), tau=tau)
    assert spikes.sum().item() == 20
    assert spikes.view(20, period)[:, -1].all()
