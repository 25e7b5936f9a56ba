"""Layers with a refractory period or several spikes a step."""

import pytest
import torch
from samples import assert_equal

import snnfast.nn as sn


def sequence(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 3


SILENT = {
    sn.IF: {},
    sn.LIF: {"tau": 3.0},
    sn.ParametricLIF: {},
    sn.CubaLIF: {},
    sn.ALIF: {},
    sn.AdLIF: {"form": "bittar2022"},
}


@pytest.mark.parametrize("layer", SILENT)
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_refractory_layer_steps_as_the_whole_sequence(layer, recurrent):
    x = sequence(30, 2, 3) * 3
    for options in ({"refractory": 2}, {"refractory": 1, "max_spikes": 3, "v_reset": None}):
        torch.manual_seed(0)
        net = layer(**SILENT[layer], **options, stateful=True)
        net = sn.Recurrent(net, 3) if recurrent else net
        whole = net(x)
        state = net.state_dict()
        assert "r" in (state if not recurrent else net.neuron.state_dict())
        sn.reset(net)
        assert (net.neuron if recurrent else net).r is None
        parts = torch.stack([net.step(row) for row in x])
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
        assert "refractory=" in repr(net)
        if "max_spikes" not in options:  # two spikes are three steps apart
            assert (whole[:-2] + whole[1:-1] + whole[2:]).max() == 1


def test_a_refractory_period_may_be_set_later():
    x = sequence(30, 2, 3) * 3
    net = sn.LIF(stateful=True, return_v_seq=True)
    net.refractory = 2
    spikes, v_seq = sn.LIF(refractory=2, return_v_seq=True)(x)
    parts = [net(part) for part in x.split(4)]
    assert_equal([torch.cat(part) for part in zip(*parts)], [spikes, v_seq])
    net.refractory = 5
    assert net.r is not None
    net.refractory = 0
    net(x)
    assert set(net.state_dict()) == {"v"}
    with pytest.raises(ValueError, match=r"^LIF: refractory must be at least 0, got -1"):
        net.refractory = -1


def test_several_spikes_without_a_refractory_period_have_no_count():
    net = sn.LIF(max_spikes=None, v_reset=None, v_threshold=0.1, stateful=True)
    assert net(sequence(5, 2, 3)).max() > 1
    assert not hasattr(net, "r")
    assert "max_spikes=None" in repr(net)


@pytest.mark.parametrize("layer", [sn.QIF, sn.EIF, sn.Izhikevich])
def test_a_layer_without_a_refractory_period_says_so(layer):
    for wrong in ({"refractory": 2}, {"max_spikes": None, "v_reset": None}):
        with pytest.raises(ValueError, match=f"^{layer.__name__}: its neurons have no refractory"):
            layer(**wrong)


def test_layers_check_refractory_periods_and_spikes():
    with pytest.raises(ValueError, match=r"^LIF: refractory must be at least 0, got -1"):
        sn.LIF(refractory=-1)
    with pytest.raises(ValueError, match=r"^LIF: max_spikes above 1 needs a soft reset"):
        sn.LIF(max_spikes=2)
    with pytest.raises(TypeError, match=r"^LIF: max_spikes must be an integer, got float"):
        sn.LIF(max_spikes=2.5, v_reset=None)
