"""BP-STDP's network: whole presentations against the manual's loop, learning, errors that change nothing."""

import pytest
import torch

import snnfast
from snnfast.encoder import BernoulliEncoder, label_encoder
from snnfast.learning import BpStdp
from snnfast.model import TravanaeiAndMaida2017
from snnfast.papers import TavanaeiAndMaida2017
from snnfast_zoo.n3ml.optimizer import TavanaeiAndMaida

T = 20


def batches(size, images, labels):
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]


def network(hidden=12, seed=0):
    torch.manual_seed(seed)
    return TavanaeiAndMaida2017(16, hidden, 3, output_threshold=1.0)


def by_the_manual(model, data, encoder, lr):
    optimizer = TavanaeiAndMaida(model, lr=lr)
    names = [f"fc{depth + 1}" for depth in range(len(model.layers))]
    for image, label in data:
        spikes = encoder(image.squeeze(0)).flatten(1)
        wanted = label_encoder(label.squeeze(), 250, 3, T)
        buffer = {name: [] for name in ("inp", *names)}
        for t in range(T):
            model(spikes[t])
            buffer["inp"].append(spikes[t])
            for name in names:
                buffer[name].append(getattr(model, name).o)
            optimizer.step(buffer, wanted[t], label.squeeze())
        model.reset()


@pytest.mark.parametrize("hidden", [12, (12, 8)])
def test_fit_gives_the_weights_of_the_manuals_loop(hidden):
    images, labels = torch.rand(9, 1, 4, 4), torch.arange(9) % 3
    data = batches(1, images, labels)
    fast, slow = network(hidden), network(hidden)
    before = [w.clone() for w in fast.weights]
    torch.manual_seed(1)
    fast.fit(data, BernoulliEncoder(num_steps=T), lr=0.05)
    torch.manual_seed(1)
    by_the_manual(slow, data, BernoulliEncoder(num_steps=T), lr=0.05)
    for w, expected, old in zip(fast.weights, slow.weights, before, strict=True):
        assert not torch.equal(w, old)
        torch.testing.assert_close(w, expected, rtol=0, atol=0)


@pytest.mark.parametrize("update", ["step", "sequence"])
def test_learns_three_patterns_from_batches(update):
    images = torch.eye(3).repeat_interleave(5, 1)  # five inputs a class
    images = torch.cat([images, torch.zeros(3, 1)], 1).repeat(20, 1)
    labels = torch.arange(60) % 3
    model = network(30)
    encoder = BernoulliEncoder(num_steps=T)
    for _ in range(20):
        model.fit(batches(6, images, labels), encoder, lr=0.02, update=update)
    weights = [w.clone() for w in model.weights]
    scored = model.score(batches(20, images, labels), encoder)
    assert scored.samples == 60
    assert scored.accuracy > 0.9
    for w, old in zip(model.weights, weights):
        torch.testing.assert_close(w, old, rtol=0, atol=0)


def test_names_of_the_manual():
    model = TravanaeiAndMaida2017(3, hidden_neurons=(12, 8), in_features=16)
    assert isinstance(model, TavanaeiAndMaida2017)
    assert [tuple(w.shape) for w in model.weights] == [(12, 16), (8, 12), (3, 8)]
    default = TravanaeiAndMaida2017.preset("iris", hidden=(5,))
    assert [tuple(w.shape) for w in default.weights] == [(5, 4), (3, 5)]
    before = [w.clone() for w in model.weights]
    model(torch.ones(16))
    model.reset_variables(w=False)
    assert not any(layer.u.any() or layer.o.any() for layer in model.layers)
    for w, expected in zip(model.weights, before):
        torch.testing.assert_close(w, expected, rtol=0, atol=0)
    model(torch.ones(16))
    membranes = [layer.u.clone() for layer in model.layers]
    model.reset_variables(u=False)
    for layer, expected, old in zip(model.layers, membranes, before):
        torch.testing.assert_close(layer.u, expected, rtol=0, atol=0)
        assert not torch.equal(layer.weight, old)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.tensor([3])}, ValueError, "label"),
        ({"labels": torch.tensor([0, 1])}, ValueError, r"images \[B, ...\] and labels \[B\]"),
        ({"images": torch.rand(1, 1, 4, 5)}, ValueError, "16"),
        ({"images": -torch.rand(1, 1, 4, 4)}, ValueError, "negative|at least 0|0, 1"),
        ({"epsilon": 0}, ValueError, "epsilon"),
        ({"beta": -1.0}, ValueError, "beta"),
        ({"lr": float("nan")}, ValueError, "lr"),
    ],
)
def test_what_is_wrong_changes_nothing(change, error, message):
    arguments = {"images": torch.rand(1, 1, 4, 4), "labels": torch.tensor([1]), **change}
    images, labels = arguments.pop("images"), arguments.pop("labels")
    model = network()
    before = [w.clone() for w in model.weights]
    with pytest.raises(error, match=message):
        model.fit([(images, labels)], BernoulliEncoder(num_steps=T), **arguments)
    for w, old in zip(model.weights, before):
        torch.testing.assert_close(w, old, rtol=0, atol=0)


def test_a_batch_without_labels_is_refused():
    with pytest.raises(ValueError, match="a batch must be images and labels, got a Tensor"):
        network().fit([torch.rand(2, 16)], BernoulliEncoder(num_steps=T))


def test_a_batch_of_another_size_ends_what_is_presented_together():
    images, labels = torch.rand(7, 16), torch.arange(7) % 3
    data = [*batches(3, images, labels), (torch.rand(2, 15), labels[:2])]
    together, alone = network(), network()
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="16"):
        together.fit(data, BernoulliEncoder(num_steps=T), lr=0.05)
    torch.manual_seed(1)
    for batch in data[:3]:
        alone.fit([batch], BernoulliEncoder(num_steps=T), lr=0.05)
    torch.testing.assert_close(list(together.weights), list(alone.weights), rtol=0, atol=0)


def test_weights_that_are_not_finite_are_refused():
    model = network()
    model.fc1.weight[0, 0] = float("nan")
    before = model.fc2.weight.clone()
    with pytest.raises(ValueError, match="finite"):
        model.fit([(torch.rand(1, 1, 4, 4), torch.tensor([1]))], BernoulliEncoder(num_steps=T))
    torch.testing.assert_close(model.fc2.weight, before, rtol=0, atol=0)


def test_wrong_networks_and_buffers():
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        TavanaeiAndMaida2017(hidden=0)
    with pytest.raises(TypeError, match="hidden must be a sequence of integers, got float"):
        TavanaeiAndMaida2017(hidden=2.5)
    with pytest.raises(ValueError, match="out_features must be at least 1, got 0"):
        TavanaeiAndMaida2017(out_features=0)
    with pytest.raises(ValueError, match="std must be"):
        TavanaeiAndMaida2017(hidden=5, std=(1.0,))
    with pytest.raises(ValueError, match=r"x must have shape \[in_features\] or .*, got \[\]"):
        network()(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"spikes must have shape \[T, B, ...\], got \[20, 16\]"):
        network().present(torch.ones(20, 16))
    with pytest.raises(ValueError, match="BpStdp: model must be a single network, got networks=2"):
        BpStdp(TavanaeiAndMaida2017(16, 12, 3, networks=2))
    optimizer, buffer = TavanaeiAndMaida(network()), {"inp": [torch.zeros(16)], "fc1": []}
    with pytest.raises(ValueError, match=r"windows\[1\] must hold a step or more"):
        optimizer.step({**buffer, "fc2": []}, torch.ones(3), 1)
    with pytest.raises(KeyError, match="fc2"):
        optimizer.step({**buffer, "fc1": [torch.zeros(12)]}, torch.ones(3), 1)


def steps(*spikes):
    """Return windows in which 16 inputs and layers of 12 and 3 neurons all fire, or the given spikes instead."""
    return [[torch.ones(n)] * 5 if s is None else s for n, s in zip((16, 12, 3), spikes)]


@pytest.mark.parametrize(
    ("windows", "desired", "error", "message"),
    [
        (
            steps([torch.ones(16)], None, None),
            None,
            ValueError,
            r"windows\[1\] must hold as many steps and samples as windows\[0\], \[1, 1\], got \[5, 1\]",
        ),
        (
            steps(None, [torch.ones(2, 12)] * 5, None),
            None,
            ValueError,
            r"windows\[1\] must hold as many .* \[5, 1\], got \[5, 2\]",
        ),
        (
            steps(None, [torch.ones(1, 12), torch.ones(2, 12)], None),
            None,
            ValueError,
            r"windows\[1\] must hold steps of one shape, got \[1, 12\] and \[2, 12\]",
        ),
        (
            steps([torch.ones(16).long()] * 5, None, None),
            None,
            TypeError,
            r"windows\[0\] must have one of the dtypes bool, .*, got torch.int64",
        ),
        (
            steps([torch.ones(16, device="meta")] * 5, None, None),
            None,
            ValueError,
            r"windows\[0\] must be on the device of the weights, cpu, got meta",
        ),
        (
            steps(None, None, [torch.ones(4)] * 5),
            None,
            ValueError,
            r"windows\[2\] must have shape \[3\] or \[B, 3\], got \[4\]",
        ),
        (steps(None, None, None), [0, 1, 0], TypeError, "desired must be a tensor, got list"),
        (steps(None, None, None), torch.ones(1), ValueError, r"desired must have shape \[3\] or \[1, 3\], got \[1\]"),
    ],
)
def test_wrong_windows_are_named_and_change_nothing(windows, desired, error, message):
    model = network()
    before = [w.clone() for w in model.weights]
    with pytest.raises(error, match=f"^BpStdp: {message}"):
        BpStdp(model).step(windows, torch.eye(3)[1] if desired is None else desired, 1)
    torch.testing.assert_close(model.weights, before, rtol=0, atol=0)


def test_windows_of_bool_are_spikes():
    models = network(), network()
    for model, dtype in zip(models, (torch.bool, torch.float32)):
        windows = [[s.to(dtype) for s in window] for window in steps(None, None, None)]
        BpStdp(model, 0.1).step(windows, torch.eye(3, dtype=dtype)[1], 1)
    torch.testing.assert_close(models[0].weights, models[1].weights, rtol=0, atol=0)
    assert not torch.equal(models[0].fc1.weight, network().fc1.weight)


def test_weak_spikes_of_an_encoder_are_spikes():
    images, models = torch.rand(2, 16), (network(), network())
    for model, size in zip(models, (0.5, 1.0)):
        torch.manual_seed(1)
        model.fit([(images, torch.tensor([0, 1]))], Constant(size), lr=0.05)
    torch.testing.assert_close(models[0].weights, models[1].weights, rtol=0, atol=0)
    assert not torch.equal(models[0].fc1.weight, network().fc1.weight)


class Constant(torch.nn.Module):
    """Encoder with a constant value for every bright pixel in every step."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, images):
        return self.size * (images > 0.5).float().expand(T, *images.shape)


def test_loss_counts_errors_of_both_signs():
    r, z = torch.zeros(4, 3), torch.zeros(4, 3)
    z[1, 0] = z[3, 0] = 1
    r[2, 1] = 1  # at 1 the label has not fired; at 3 it still has not, and another class fired
    error = snnfast.loss.bp_stdp_error(r, z, 0, epsilon=2)
    expected = torch.zeros(4, 3)
    expected[1, 0] = expected[3, 0] = 1
    expected[3, 1] = -1
    torch.testing.assert_close(error.to(expected), expected, rtol=0, atol=0)
    assert snnfast.loss.bp_stdp_loss(r, z, 0, epsilon=2).item() == pytest.approx(3 / 4)
