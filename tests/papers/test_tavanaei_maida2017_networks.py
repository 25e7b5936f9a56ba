"""Many networks of Tavanaei and Maida in one model: each equals, bit for bit, a single network with its seed."""

import copy

import pytest
import torch

from snnfast.encoder import BernoulliEncoder, RegularEncoder, desired_times
from snnfast.papers import TavanaeiAndMaida2017


def assert_exact(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def networks(count=3, seed=5, settings_of=lambda k: {}, **settings):
    """Return networks with seeds 5, 6, 7; single ones with ``settings_of(k)``, and the generator state after each."""
    sizes, settings = (16, (12, 8), 3), {"output_threshold": 1.0, **settings}
    torch.manual_seed(seed)
    together = TavanaeiAndMaida2017(*sizes, networks=count, **settings)
    alone = []
    for k in range(count):
        torch.manual_seed(seed + k)
        single = TavanaeiAndMaida2017(*sizes, **settings | settings_of(k))
        alone.append((single, torch.get_rng_state()))
    return together, alone


def assert_each_is(together, alone):
    for k, (one, _) in enumerate(alone):
        for w, expected in zip(together.weights, one.weights, strict=True):
            assert_exact(w[k], expected)


@pytest.mark.parametrize("encode", [BernoulliEncoder, RegularEncoder])
def test_each_is_the_one_made_alone_with_its_seed(encode):
    """Weights, spikes and desired times are equal in training and evaluation."""
    together, alone = networks()
    assert_each_is(together, alone)
    images = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = [(images[i : i + 4], torch.arange(10)[i : i + 4] % 3) for i in range(0, 10, 4)]
    encoder = encode(num_steps=8, scale=2.0)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    trained, scored = together.fit(data, encoder, lr=0.05), together.score(data, encoder)
    assert_exact(torch.get_rng_state(), before)
    for k, (one, state) in enumerate(alone):
        torch.set_rng_state(state)
        for got, expected in ((trained, one.fit(data, encoder, lr=0.05)), (scored, one.score(data, encoder))):
            assert got.samples == expected.samples
            assert (float(got.accuracy[k]), float(got.loss[k])) == expected[1:]
    assert_each_is(together, alone)
    assert (together.fc1.weight[0] != together.fc1.weight[1]).any()


def test_a_loader_with_a_generator_of_its_own_leaves_those_of_the_networks_alone():
    together, alone = networks()
    images = torch.rand(10, 16, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(images, torch.arange(10) % 3)

    def fit(model):
        generator = torch.Generator().manual_seed(0)
        loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, generator=generator)
        model.fit(loader, BernoulliEncoder(num_steps=8), lr=0.05)

    fit(together)
    for one, state in alone:
        torch.set_rng_state(state)
        fit(one)
    assert_each_is(together, alone)


def test_each_has_its_own_settings():
    """Network k equals a single one with the k-th values."""
    lr, threshold, output = (0.05, 0.0, 0.2), [0.5, 0.9, 1.3], (1.0, 0.7, 2.0)
    std = 0.5, (0.3, 1.0, 0.0), 0.8
    together, alone = networks(
        settings_of=lambda k: {"threshold": threshold[k], "output_threshold": output[k], "std": (0.5, std[1][k], 0.8)},
        threshold=threshold,
        output_threshold=output,
        std=std,
    )
    assert_each_is(together, alone)
    images = torch.rand(9, 16, generator=torch.Generator().manual_seed(0))
    data = [(images[i : i + 3], torch.arange(3)) for i in (0, 3, 6)]
    encoder = RegularEncoder(num_steps=8, scale=2.0)
    trained = together.fit(data, encoder, lr=lr)
    for k, (one, state) in enumerate(alone):
        torch.set_rng_state(state)
        expected = one.fit(data, encoder, lr=lr[k])
        assert (float(trained.accuracy[k]), float(trained.loss[k])) == expected[1:]
        step = images[0]
        assert_exact(together(step)[k], one(step))
    assert_each_is(together, alone)
    assert "threshold=0.5, 0.9, 1.3" in repr(together.fc2)


def test_whole_presentations_and_step_by_step():
    """The networks get the same spikes, or different ones."""
    together, alone = networks()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 6, 2, 4, 4, generator=generator) < 0.4
    labels, desired = torch.tensor([0, 2]), desired_times(2, 250, 6, generator=generator)
    for stimuli in (x, x[1]):
        separate = stimuli.dim() == 5
        for learns in (False, True):
            if learns:
                result = together.learn(stimuli, labels, desired, lr=0.05)
            else:
                result = together.present(stimuli, return_hidden=True)
            for k, (one, _) in enumerate(alone):
                mine = stimuli[k] if separate else stimuli
                if learns:
                    assert_exact(result.spikes[k], one.learn(mine, labels, desired, lr=0.05).spikes)
                else:
                    answer = one.present(mine, return_hidden=True)
                    assert_exact([h[k] for h in result.hidden], list(answer.hidden))
        for steps in (stimuli.flatten(-2), stimuli[..., :1, :, :].flatten(-2)):
            for model in (together, *(one for one, _ in alone)):
                model.reset()
            for t in range(6):
                together(steps[:, t] if separate else steps[t])
                for k, (one, _) in enumerate(alone):
                    one(steps[k, t] if separate else steps[t])
                    for a, b in zip(together.layers, one.layers, strict=True):
                        assert_exact((a.u[k], a.o[k]), (b.u, b.o))
    assert_each_is(together, alone)
    assert together(x[0, 0, 0].flatten()).shape == (3, 3)
    assert together.fc1.u.shape == (3, 12)


def test_seeds_of_any_kind_and_copies():
    torch.manual_seed(6)
    single = TavanaeiAndMaida2017(4, 3, 2)
    several = TavanaeiAndMaida2017(4, 3, 2, networks=2, seeds=(3, 6))
    assert_exact(several.fc2.weight[1], single.fc2.weight)
    copied = copy.deepcopy(several)
    for model in (several, copied):
        model.reset_parameters()
    assert_exact(dict(several.state_dict()), dict(copied.state_dict()))
    assert (several.fc2.weight[1] != single.fc2.weight).any()
    assert repr(several.fc1) == repr(single.fc1)
    assert "networks=2" in repr(several)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"networks": 0}, ValueError, "networks must be at least 1, got 0"),
        ({"seeds": [1]}, ValueError, "seeds need networks, got networks=None"),
        ({"networks": 2, "seeds": "12"}, TypeError, "seeds must be a sequence of integers"),
        ({"networks": 2, "seeds": [1]}, ValueError, "seeds must be 2, one a network, got 1"),
        ({"threshold": [1.0]}, TypeError, "threshold must be a number, got list"),
        ({"networks": 2, "threshold": [1.0]}, ValueError, "threshold must be a number or 2, one a network, got 1"),
        ({"networks": 2, "output_threshold": [1.0, 0]}, ValueError, r"threshold\[1\] must be positive, got 0"),
        ({"networks": 2, "std": [1.0, [1, "a"]]}, TypeError, r"std\[1\] must be a number, got str"),
        ({"networks": 2, "threshold": "12"}, TypeError, "threshold must be a number, got str"),
    ],
)
def test_errors_of_the_constructor(arguments, error, message):
    with pytest.raises(error, match=f"TavanaeiAndMaida2017: {message}"):
        TavanaeiAndMaida2017(4, 3, 2, **arguments)
