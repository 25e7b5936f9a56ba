"""Conversion after fine-tuning with QCFS, whose floor and clip equal the neurons."""

import copy

import torch
from networks import Residual, images, make
from torch import nn

import snnfast
from snnfast.conversion import QCFS, fine_tune, quantise


def test_qcfs_is_what_neurons_do_in_levels_steps():
    """The paper's theorem: floor and clip are the mean output after L steps of constant current."""
    levels = 6
    layer = QCFS(1.5, levels)
    x = torch.linspace(-1, 3, 401)
    spikes, _ = snnfast.ops.iaf(x.expand(levels, -1), torch.full_like(x, 0.75), v_threshold=1.5, v_reset=None)
    torch.testing.assert_close(layer(x).detach(), spikes.mean(0) * 1.5)


def test_qcfs_gradients_pass_the_floor():
    layer = QCFS(2.0, 4)
    x = torch.tensor([-1.0, 0.3, 1.1, 5.0], requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, torch.tensor([0.0, 0.5, 1.0, 2.0]))
    gradients = torch.autograd.grad(y.sum(), [x, layer.threshold])
    assert gradients[0].tolist() == [0, 1, 1, 0]
    # y/th - x/th inside, 1 above
    torch.testing.assert_close(gradients[1], torch.tensor((0.25 - 0.15) + (0.5 - 0.55) + 1.0))


def test_fine_tuned_thresholds_serve_few_steps():
    torch.manual_seed(0)
    x = torch.rand(400, 2)
    y = (x[:, 0] > x[:, 1]).long()
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    loader = list(zip(x.split(50), y.split(50)))
    fine_tune(model, loader, epochs=20, lr=1e-2, progress=False)
    before = copy.deepcopy(model.state_dict())
    few = snnfast.convert(model, loader, method="qcfs", levels=4, epochs=10, lr=5e-3)
    for k, a in model.state_dict().items():
        torch.testing.assert_close(a, before[k], rtol=0, atol=0)
    accuracy = (few(x, 4).argmax(1) == y).float().mean()
    assert accuracy > 0.95
    largest = snnfast.convert(model, loader, method="max")
    assert accuracy > (largest(x, 4).argmax(1) == y).float().mean()
    assert all(n.initial == 0.5 for n in few.spiking.values())


def test_a_model_with_qcfs_in_it_is_taken_as_it_is():
    torch.manual_seed(0)
    model, x = make(Residual), images()
    quantised = quantise(model, [x], levels=8)
    network = snnfast.convert(quantised, [x], method="qcfs")
    learned = [m.threshold.item() for m in quantised.modules() if isinstance(m, QCFS)]
    assert [t.item() for t in network.thresholds] == learned
    torch.testing.assert_close(network.analog(x)[0], model(x).detach(), rtol=1e-4, atol=1e-4)
