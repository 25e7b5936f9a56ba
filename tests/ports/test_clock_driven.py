"""Model files on SpikingJelly's clock_driven, built without it: outputs and gradients are those of plain loops."""

import importlib
import sys
import warnings
from pathlib import Path

import plain_jelly
import pytest
import torch
from published import equal_runs, published
from samples import assert_equal
from torch import nn

import snnfast.surrogate as known
from snnfast import nn as sn
from snnfast.ports.older_spikingjelly import cext_neuron, functional, layer, neuron, surrogate
from snnfast.ports.older_spikingjelly.base import MemoryModule

SETTINGS = [
    {},
    {"v_reset": None},
    {"v_threshold": 0.5, "detach_reset": True},
    {"v_reset": -0.1, "surrogate_function": known.atan(2.0)},
]


@pytest.mark.parametrize("name", ["Spikformer", "QKFormer", "SEWResNet"])
def test_a_model_file_is_exact_without_spikingjelly(name):
    net, plain, x = published(name)
    equal_runs(net, plain, x)


@pytest.mark.parametrize("name", [name for name in neuron.__all__ if name != "BaseNode"])
def test_neurons_are_those_of_plain_loops(name):
    """With every setting: a sequence, or a step a call; twice, with a reset between."""
    steps = not name.startswith("MultiStep")
    plain = vars(plain_jelly)[name.removeprefix("MultiStep")]
    plain = type(name, (plain,), {})
    leaky = [{"decay_input": False}, {"decay_input": False, "v_reset": -0.2}] if "LIF" in name else []
    for settings in (*SETTINGS, *leaky):
        pair = getattr(neuron, name)(**settings).double(), plain(**settings).double()
        assert list(pair[0].state_dict()) == list(pair[1].state_dict())
        equal_runs(*(_Steps(one) if steps else one for one in pair), 2 * torch.randn(5, 3, 4, dtype=torch.float64))


class _Steps(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.node = node

    def forward(self, x):
        return torch.stack([self.node(step) for step in x])


def test_a_loop_of_single_steps_is_taken_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(4, 3), neuron.LIFNode()

        def forward(self, x):
            functional.reset_net(self)
            return torch.stack([self.lif(self.fc(step)) for step in x])

    torch.manual_seed(0)
    net, x = Net(), 3 * torch.randn(6, 2, 4)
    fast = sn.replace(net, verify=x)
    assert fast.lif.step_mode == "m"
    assert isinstance(fast.lif, neuron.BaseNode)


def test_neurons_of_the_extension_in_c():
    x = 2 * torch.randn(5, 3, 4)
    for name in ("IFNode", "LIFNode"):
        tau = {"tau": 100.0} if name == "LIFNode" else {}
        expected = getattr(neuron, f"MultiStep{name}")(**tau, surrogate_function=surrogate.ATan(2.0))(x)
        assert_equal(getattr(cext_neuron, f"MultiStep{name}")()(x), expected)
        assert_equal(_Steps(getattr(cext_neuron, name)())(x), expected)
    with pytest.raises(ValueError, match="surrogate_function must be ATan or Sigmoid, got 'Erf'"):
        cext_neuron.IFNode(surrogate_function="Erf")


@pytest.mark.parametrize(("kind", "dims"), [(layer.MultiStepDropout, 2), (layer.MultiStepDropout2d, 4)])
def test_dropout_has_one_mask_until_reset(kind, dims):
    drop, x = kind(0.5), torch.ones(3, 4, 64, *(2,) * (dims - 2))
    y = drop(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert_equal(y, y[:1].expand_as(y))
    assert_equal(drop(x), y)
    functional.reset_net(drop)
    assert not torch.equal(drop(x), y)
    assert_equal(drop.eval()(x), x)
    step = (layer.Dropout if dims == 2 else layer.Dropout2d)(0.5)
    assert_equal(step(x[0]), step(x[1]))


def test_batch_norm_with_a_threshold():
    norm, plain = layer.MultiStepThresholdDependentBatchNorm2d(0.5, 0.8, 3), nn.BatchNorm2d(3)
    x = torch.randn(4, 2, 3, 5, 5)
    torch.testing.assert_close(norm(x), 0.4 * plain(x.flatten(0, 1)).unflatten(0, (4, 2)))
    with pytest.raises(ValueError, match=r"x_seq must have 5 dimensions, \[T, B, C, ...\], got 4"):
        norm(x[0])


def test_functions():
    x = torch.randn(4, 2, 3, 5)
    loss = functional.temporal_efficient_training_cross_entropy(x[..., 0], torch.tensor([2, 0]))
    steps = [nn.functional.cross_entropy(step[..., 0], torch.tensor([2, 0])) for step in x]
    torch.testing.assert_close(loss, sum(steps) / 4)
    linear = nn.Linear(5, 2)
    expected = linear(x)
    torch.testing.assert_close(functional.seq_to_ann_forward(x, [linear]), expected)
    torch.testing.assert_close(layer.SeqToANNContainer(linear)(x), expected)
    torch.testing.assert_close(layer.MultiStepContainer(linear)(x), expected)


def test_memories_begin_anew_at_a_reset():
    class Sum(MemoryModule):
        def __init__(self):
            super().__init__()
            self.register_memory("y", 0.0)

        def forward(self, x):
            self.y = self.y + x
            return self.y

    module, x = Sum(), torch.ones(2, requires_grad=True)
    module(x)
    sn.detach(module)
    assert not module.y.requires_grad
    sn.reset(module)
    assert module.y == 0.0
    with pytest.raises(AttributeError, match="a Sum has y already"):
        module.register_memory("y", 1.0)


def test_errors_name_what_there_is():
    with pytest.raises(TypeError, match=r"^MultiStepLIFNode: got an unexpected .*'theta'; it has tau, decay_input"):
        neuron.MultiStepLIFNode(theta=1.0)
    with pytest.raises(TypeError, match=r"snnfast\.neuron"):
        neuron.BaseNode()
    with pytest.raises(TypeError, match="Changed: it has neuronal_charge of its own"):
        type("Changed", (neuron.LIFNode,), {"neuronal_charge": None})
    with pytest.raises(ValueError, match=r"surrogate.SoftSign: alpha must be 2.0, got 3.0"):
        surrogate.SoftSign(3.0)
    with pytest.raises(ValueError, match="spiking must be True"):
        surrogate.ATan(spiking=False)
    with pytest.raises(ValueError, match=r"init_tau must be above 1 step, got 1\.0"):
        neuron.ParametricLIFNode(1.0)


def test_names_that_are_missing_are_refused():
    with plain_jelly.modules():
        with pytest.raises(ImportError, match=r"^snnfast\.ports\.clock_driven has no spikingjelly\.datasets; it has"):
            importlib.import_module("spikingjelly.datasets")
        with pytest.raises(ImportError, match=r"has no spikingjelly\.clock_driven\.encoding"):
            from spikingjelly.clock_driven import encoding  # noqa: F401
        with pytest.raises(ImportError, match=r"has no spikingjelly\.clock_driven\.neuron\.LIAFNode"):
            from spikingjelly.clock_driven.neuron import LIAFNode  # noqa: F401
        from spikingjelly.clock_driven import neuron as found
    assert found is neuron


def test_an_installed_spikingjelly_stays_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "spikingjelly").mkdir()
    (tmp_path / "spikingjelly/__init__.py").write_text("theirs = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    saved = [sys.modules.pop(name, None) for name in ("snnfast.ports.clock_driven", "spikingjelly")]
    finders = list(sys.meta_path)
    with pytest.warns(UserWarning, match="SpikingJelly is installed, so that nothing of it changes"):
        importlib.import_module("snnfast.ports.clock_driven")
    assert "spikingjelly" not in sys.modules
    assert sys.meta_path == finders
    del sys.modules["snnfast.ports.clock_driven"]
    sys.modules.update({n: m for n, m in zip(("snnfast.ports.clock_driven", "spikingjelly"), saved) if m is not None})
    assert Path(importlib.import_module("spikingjelly").__file__).parent == tmp_path / "spikingjelly"
    del sys.modules["spikingjelly"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with plain_jelly.modules():
            pass
