"""Fake tensors: ops and layers give shapes under FakeTensorMode, also those that check values."""

import pytest
import torch
from every_op import examples
from torch._subclasses.fake_tensor import FakeTensorMode

from snnfast import encoder, nn, ops
from snnfast.nn import RLIF, loss

OPS = sorted(name for name in ops.__all__ if name.islower())
LABELS = (1, 2)
# Calls that check values if there are any.
LOOKING = {
    "a fixed delay": lambda: RLIF(3, delay=torch.ones(3))(torch.rand(4, 2, 3)),
    "counting what is not 0": lambda: nn.SpikeLinear(3, 5)(torch.rand(4, 2, 3)),
    "convolutions of spikes": lambda: nn.SpikeConv2d(3, 8, 3)(torch.rand(2, 3, 6, 6)),
    "lengths": lambda: nn.Rate()(torch.rand(4, 2, 3), torch.tensor(LABELS)),
    "a loss": lambda: loss.ce_membrane(torch.rand(4, 2, 3), torch.tensor(LABELS)),
    "rates": lambda: encoder.PoissonEncoder(5)(torch.rand(2, 3)),
    "times of spikes": lambda: nn.SpikeProp(3, 5)(torch.rand(2, 3)),
}


def shapes(result):
    results = result if isinstance(result, (tuple, list)) else [result]
    return [(r.shape, r.dtype) for r in results if isinstance(r, torch.Tensor)]


@pytest.mark.filterwarnings("ignore:spikeprop. all outputs are silent")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", LOOKING)
def test_what_looks_at_values_does_without(name, grad):
    with torch.set_grad_enabled(grad):
        want = shapes(LOOKING[name]())
        with FakeTensorMode():
            got = LOOKING[name]()
        assert shapes(got) == want
        if grad and got.requires_grad:
            got.sum().backward()


@pytest.mark.parametrize("name", OPS)
def test_every_op_gives_shapes(name, monkeypatch):
    want = shapes(examples("cpu", steps=6, neurons=24)[name].run())
    with FakeTensorMode(allow_non_fake_inputs=True):  # gradients of the outputs were drawn in the first run
        assert shapes(examples("cpu", steps=6, neurons=24)[name].run()) == want


def test_a_layer_with_fixed_delays_keeps_its_state_without_values():
    layer = RLIF(3, delay=torch.tensor([0.0, 1.5, 4.0]), stateful=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        layer(torch.rand(9, 2, 3))
    assert layer.past.shape == (6, 2, 3)
    with FakeTensorMode():
        layer = RLIF(3, delay=torch.ones(3), stateful=True)
        with pytest.raises(RuntimeError, match="RLIF: with stateful=True the longest delay decides"):
            layer(torch.rand(9, 2, 3))
