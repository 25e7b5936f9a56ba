"""snnTorch's neurons and networks compared with their copies on our kernels, where snnTorch is installed."""

import copy

import pytest
import torch
from replaced import agrees, inputs, loss_of, loud, same
from torch import nn

import snnfast
from snnfast import nn as sn
from snnfast.backend import BackendWarning

snn = pytest.importorskip("snntorch")
surrogate = pytest.importorskip("snntorch.surrogate")
quant = pytest.importorskip("snntorch.functional.quant")


def over_time(neuron, x):
    """Run the loop of snnTorch's tutorials, which passes states from step to step."""
    hands_on_spikes = type(neuron).__name__.startswith("R")
    states, results = (), []
    for x_t in x:
        result = neuron(x_t, *states)
        states = result if hands_on_spikes else result[1:]
        results.append(result)
    return [torch.stack(part) for part in zip(*results)]


def hidden(neuron, x):
    """Run the loop of a neuron that keeps its states."""
    return [torch.stack([neuron(x_t) for x_t in x])]


RECURRENT = {"linear_features": 6}
CASES = [
    ("Leaky", {}),
    ("Leaky", {"reset_mechanism": "zero"}),
    ("Leaky", {"reset_mechanism": "none"}),
    ("Leaky", {"reset_mechanism": "zero", "reset_delay": False}),
    ("Leaky", {"learn_beta": True, "learn_threshold": True}),
    ("Leaky", {"learn_beta": True, "learn_threshold": True, "reset_mechanism": "zero"}),
    ("Leaky", {"beta": torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.5]), "learn_beta": True}),
    ("Leaky", {"spike_grad": "fast_sigmoid"}),
    ("Leaky", {"spike_grad": "sigmoid"}),
    ("Leaky", {"graded_spikes_factor": 0.5, "learn_graded_spikes_factor": True}),
    ("Lapicque", {"beta": 0.5}),
    ("Lapicque", {"beta": False, "R": 2.0, "C": 1.5, "time_step": 0.9}),
    ("Lapicque", {"beta": 0.5, "reset_mechanism": "none"}),
    ("Synaptic", {"alpha": 0.6}),
    ("Synaptic", {"alpha": 0.6, "learn_alpha": True, "learn_beta": True}),
    ("Synaptic", {"alpha": 0.6, "reset_mechanism": "none"}),
    ("Synaptic", {"alpha": 0.6, "reset_mechanism": "zero", "reset_delay": False}),
    ("Lapicque", {"beta": 0.5, "reset_mechanism": "zero"}),
    ("Lapicque", {"beta": 0.5, "reset_mechanism": "zero", "learn_threshold": True}),
    ("Synaptic", {"alpha": 0.6, "reset_mechanism": "zero", "learn_alpha": True, "learn_beta": True}),
    ("Alpha", {"alpha": 0.9, "reset_mechanism": "none", "learn_beta": True}),
    ("RLeaky", RECURRENT),
    ("RLeaky", RECURRENT | {"learn_recurrent": False, "learn_beta": True}),
    ("RLeaky", RECURRENT | {"reset_mechanism": "zero", "reset_delay": False}),
    ("RLeaky", {"all_to_all": False, "V": 0.5}),
    ("RLeaky", {"all_to_all": False, "V": torch.tensor([0.1, 0.2, -0.3, 0.4, -0.5, 0.6])}),
    ("RLeaky", RECURRENT | {"reset_mechanism": "zero", "learn_beta": True}),
    ("RSynaptic", RECURRENT | {"alpha": 0.5, "learn_alpha": True}),
    ("RSynaptic", RECURRENT | {"alpha": 0.5, "learn_alpha": True, "reset_mechanism": "zero"}),
]


def make(name, settings):
    torch.manual_seed(0)
    options = {"beta": 0.8, "threshold": 0.5} | settings
    if "spike_grad" in options:
        options["spike_grad"] = getattr(surrogate, options["spike_grad"])(slope=10)
    return getattr(snn, name)(**options)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_neuron_gives_the_same_spikes_states_and_gradients(name, settings):
    # Strong input: resets leave membranes above the threshold.
    agrees(make(name, settings), over_time, inputs(30, 4, 6))


@pytest.mark.parametrize("name", ["Leaky", "Lapicque", "Synaptic", "RLeaky", "RSynaptic"])
@pytest.mark.parametrize("output", [False, True])
def test_a_neuron_that_keeps_its_states(name, output):
    settings = {"Synaptic": {"alpha": 0.6}, "RLeaky": RECURRENT, "Lapicque": {"beta": 0.5}}
    options = settings.get(name, {} if name == "Leaky" else RECURRENT | {"alpha": 0.5})
    neuron = make(name, options | {"init_hidden": True, "output": output})

    def run(module, x):
        if not output:
            return hidden(module, x)
        return [torch.stack(part) for part in zip(*(module(x_t) for x_t in x))]

    ours = agrees(neuron, run, inputs(20, 4, 6))
    with pytest.raises(TypeError, match=f"^{name}: with init_hidden=True states are not to be"):
        ours(torch.rand(4, 6), torch.rand(4, 6))
    # At rest again, also for a batch of another shape.
    sn.reset(ours)
    neuron.reset_mem()
    x = inputs(5, 4, 6)
    same(run(ours, x)[0], run(neuron, x)[0], exact=True)
    x = inputs(5, 2, 6)
    same(run(ours, x)[0], run(neuron, x)[0], exact=True)


@pytest.mark.filterwarnings("ignore:lif runs in plain")
def test_a_surrogate_that_no_kernel_has_is_kept():
    neuron = snn.Leaky(0.8, spike_grad=surrogate.straight_through_estimator())
    agrees(neuron, over_time, inputs(10, 4, 6))


class Net(nn.Module):
    """Network of snnTorch's tutorial 5."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 20)
        self.lif1 = snn.Leaky(beta=0.95)
        self.fc2 = nn.Linear(20, 5)
        self.lif2 = snn.Leaky(beta=0.9, learn_beta=True)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for x_t in x:
            spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


def test_a_network_of_the_tutorials():
    torch.manual_seed(0)
    net = Net()
    loud(net.fc1), loud(net.fc2)
    x = inputs(25, 4, 8)
    ours = sn.replace(net, verify=x)
    agrees(net, lambda module, x: module(x), x)
    # It trains: a step of both gives the same weights.
    for module in (net, ours):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.001)
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x)[1].mean(0), torch.tensor([0, 1, 2, 3]))
            loss.backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), net.parameters()):
        same(p, q)


def test_a_sequential_network_takes_a_step_a_call():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), snn.Leaky(0.9, init_hidden=True), nn.MaxPool2d(2), nn.Flatten(),
        loud(nn.Linear(36, 5)), snn.Synaptic(0.5, 0.8, init_hidden=True, output=True),
    )  # fmt: skip
    loud(net[0])
    x = inputs(12, 3, 1, 8, 8)
    ours = sn.replace(net, verify=list(x))
    for x_t in x:
        for a, b in zip(ours(x_t), net(x_t)):
            same(a, b)
    # A copy of a network in use continues from its state.
    same(sn.replace(net, verify=list(x))(x[0])[-1], net(x[0])[-1])


def sequential(output=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(loud(nn.Conv2d(1, 4, 3)), snn.Leaky(0.9, init_hidden=True)), nn.MaxPool2d(2), nn.Flatten(),
        loud(nn.Linear(36, 8)), snn.RSynaptic(0.5, 0.8, linear_features=8, init_hidden=True),
        loud(nn.Linear(8, 5)), snn.Leaky(0.8, init_hidden=True, output=output, learn_beta=True),
    )  # fmt: skip


@pytest.mark.parametrize("output", [False, True])
def test_a_sequential_network_over_whole_sequences(output):
    net = sequential(output)
    x = inputs(12, 3, 1, 8, 8)
    ours = sn.replace(net, sequences=True, verify=x)
    assert list(ours.state_dict()) == list(net.state_dict())

    def run(module, x):
        if module is ours:
            result = module(x)
            return result if output else [result]
        steps = [module(x_t) for x_t in x]
        return [torch.stack(part) for part in zip(*steps)] if output else [torch.stack(steps)]

    for part in (x[:5], x[5:]):  # states stay between calls
        gradients = []
        for module in (net, ours):
            sn.detach(module)
            for layer in net.modules():
                for name in {"mem", "syn", "spk"} & layer._buffers.keys():
                    layer._buffers[name] = layer._buffers[name].detach()
            results = run(module, part)
            gradients.append((results, torch.autograd.grad(loss_of(results), module.parameters())))
        (theirs, wanted), (results_here, found) = gradients
        assert theirs[0].any()
        for a, b in zip([*results_here, *found], [*theirs, *wanted]):
            same(a, b)


def test_what_cannot_take_sequences_is_refused():
    for net, error in (
        (nn.Sequential(snn.Leaky(0.9)), r"^replace: 0, a Leaky, hands its states on; sequences=True needs init_hidden"),
        (nn.Sequential(snn.Synaptic(0.9, 0.8, init_hidden=True, output=True)), "current of every step"),
        (nn.ModuleList([sequential()]), r"the forward of ModuleList cannot be followed"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            sn.replace(net, sequences=True)
    with pytest.raises(ValueError, match="verify must be one sequence, got 2"):
        sn.replace(sequential(), sequences=True, verify=[torch.rand(2, 2), torch.rand(2, 2)])


ROUNDS = {"state_quant": quant.state_quant(num_bits=4, uniform=True, threshold=0.5)}
BY_STEPS = [
    ("Leaky", {"reset_delay": False, "learn_threshold": True}, "compares another membrane"),
    ("Leaky", {"inhibition": True}, "one spike a sample"),
    ("Leaky", {"beta": 0.0}, "less than 0.001 of its membrane"),
    ("Leaky", ROUNDS, "rounds its membrane"),
    ("Lapicque", {"beta": False, "R": 1.0, "C": 1.0}, "less than 0.001 of its membrane"),
    ("Synaptic", {"alpha": 0.6, "reset_delay": False}, "compares another membrane"),
    ("Synaptic", {"alpha": 0.6, "reset_mechanism": "zero"} | ROUNDS, "rounds its membrane"),
    ("Alpha", {"alpha": 0.9}, "its reset changes currents"),
    ("Alpha", {"alpha": 0.9, "reset_mechanism": "zero"}, "its reset changes currents"),
    ("RLeaky", RECURRENT | {"reset_mechanism": "none"}, "without a reset"),
    ("RLeaky", RECURRENT | {"reset_mechanism": "zero", "learn_threshold": True}, "cannot fire"),
    ("RLeaky", {"all_to_all": False, "V": 0.5, "reset_delay": False}, "compares another membrane"),
    ("RSynaptic", RECURRENT | {"alpha": 0.5, "reset_mechanism": "none"}, "without a reset"),
]


@pytest.mark.parametrize(("name", "settings", "why"), BY_STEPS)
@pytest.mark.filterwarnings("ignore:Inhibition")
def test_what_no_kernel_does_runs_in_plain_pytorch(name, settings, why):
    with pytest.warns(BackendWarning, match=f"^{name} runs in plain PyTorch, .*{why}"):
        agrees(make(name, settings), over_time, inputs(12, 4, 6))


@pytest.mark.filterwarnings("ignore:RLeaky runs in plain")
def test_recurrent_convolutions():
    neuron = make("RLeaky", {"conv2d_channels": 2, "kernel_size": 3})
    agrees(neuron, over_time, inputs(8, 3, 2, 5, 5))


@pytest.mark.filterwarnings("ignore:RLeaky runs in plain")
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"conv2d_channels": 2, "kernel_size": 3}, (2, 5, 5)),
        (RECURRENT | {"reset_mechanism": "none"}, (6,)),
        ({"all_to_all": False, "reset_mechanism": "none"}, (6,)),
    ],
)
def test_a_monitor_counts_once_what_comes_back(settings, shape):
    ours = sn.replace(make("RLeaky", settings))
    with snnfast.monitor(ours) as watching:
        over_time(ours, inputs(8, 3, *shape))
    (product,) = watching.activity().products
    assert product.accumulates > 0


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("Lapicque", {"beta": 0.5, "learn_beta": True}, r"^replace: net, a Lapicque of snntorch, .*: learn_beta"),
        ("RSynaptic", RECURRENT | {"alpha": 0.5, "reset_mechanism": "zero", "reset_delay": False}, "not its own"),
        ("LeakyParallel", {"input_size": 3, "hidden_size": 3}, "there are equals for Leaky, Lap"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused(name, settings, error):
    with pytest.raises(ValueError, match=error):
        sn.replace(make(name, settings))


CHANGES = {
    "as it was returned": lambda neuron, mem: mem,
    "another": lambda neuron, mem: mem * 0.5,
    "changed in place": lambda neuron, mem: mem.detach().mul_(0.5),
    "changed where it lies": lambda neuron, mem: torch.no_grad()(mem.mul_)(0.5),
    "detached": lambda neuron, mem: mem.detach(),
    "another beta": lambda neuron, mem: neuron.beta.mul_(0.9) is None or mem,
    "another threshold": lambda neuron, mem: neuron.threshold.mul_(1.1) is None or mem,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_the_membrane_that_a_step_returned_may_come_back_or_another(kind, change):
    """If it comes back unchanged, the kernel continues from its own state."""
    neuron = getattr(snn, kind)(*([0.8] if kind == "Synaptic" else []), beta=0.9)

    def run(module, x):
        rest = torch.zeros(3, 5, dtype=x.dtype)
        states, spikes = [rest, rest] if kind == "Synaptic" else [rest], []
        module = copy.deepcopy(module)
        for t, x_t in enumerate(x):
            if t % 4 == 3:
                states[-1] = CHANGES[change](module, states[-1])
            spike, *states = module(x_t, *states)
            spikes.append(spike)
        return torch.stack(spikes), *states

    agrees(neuron, run, inputs(23, 3, 5, high=1.5))


@pytest.mark.parametrize("kind", ["Leaky", "Lapicque", "Synaptic", "RLeaky", "RSynaptic"])
def test_a_loop_over_the_steps_is_taken_apart(kind):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"Synaptic": {"alpha": 0.7}, "RSynaptic": {"alpha": 0.7}}.get(kind, {})
            options |= {"linear_features": 6} if kind.startswith("R") else {}
            self.fc, self.lif = loud(nn.Linear(4, 6)), getattr(snn, kind)(beta=0.8, **options)
            self.late, self.last = loud(nn.Linear(6, 3)), snn.Leaky(beta=0.9, learn_threshold=True)

        def forward(self, x):
            states, mem = self.lif.reset_mem(), self.last.reset_mem()
            states = states if isinstance(states, tuple) else (states,)
            hands_on_spikes, names = kind.startswith("R"), range(len(states))
            spikes, membranes = [], []
            for x_t in x:
                result = self.lif(self.fc(x_t), *states)
                states = [result[k if hands_on_spikes else k + 1] for k in names]
                spk = result[0]
                spk, mem = self.last(self.late(spk), mem)
                spikes.append(spk)
                membranes.append(mem)
            return torch.stack(spikes), torch.stack(membranes)

    net = Loop()
    x = inputs(15, 3, 4, high=2.0)
    ours = sn.replace(net, sequences=True, verify=x)
    assert list(ours.state_dict()) == list(net.state_dict())
    for part in (x, x[:4]):
        (theirs, wanted), (results_here, found) = (
            (out := module(part), torch.autograd.grad(loss_of(out), module.parameters())) for module in (net, ours)
        )
        assert theirs[0].any()
        for a, b in zip([*results_here, *found], [*theirs, *wanted], strict=True):
            same(a, b)


def test_the_repr_has_the_settings_of_the_neuron_alone():
    text = repr(sn.replace(nn.Sequential(snn.Leaky(beta=0.9, init_hidden=True)))[0])
    assert "beta=0.9" in text
    assert "mechanism=subtract" in text
    assert "why" not in text
    assert "least" not in text
