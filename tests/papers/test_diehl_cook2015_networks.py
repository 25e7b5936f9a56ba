"""Many networks of Diehl and Cook 2015 in one model: each equals, bit for bit, a single network with its seed."""

import copy

import pytest
import torch

from snnfast.model import DiehlAndCook2015

PAPER = {"theta_init": 5.0, "norm": 0.5, "rest": 0.0, "min_spikes": 0}


def rates(P=3):
    return torch.rand(P, 5, 4, generator=torch.Generator().manual_seed(1)) * 300


def spikes(P=3, T=60):
    return torch.rand(P, T, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.15


def assert_exact(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def networks(count=3, preset="manual", **changes):
    """Return networks with the seeds 5, 6, 7, together and each alone, made after all others."""
    models = []
    for seed, several in ((5, {"networks": count}), *((5 + k, {}) for k in range(count))):
        torch.manual_seed(seed)
        models.append(
            DiehlAndCook2015(
                6,
                (5, 4),
                preset,
                **{"norm": 0.3, "v_threshold": 3.0, "v_reset": 0.0, "inhibition": 0.5} if preset != "paper" else PAPER,
                duration=60,
                theta_plus=0.3,
                lr=0.02,
                **several,
                **changes,
            )
        )
    return models


def assert_each_is(together, alone):
    state = together.state_dict()
    for k, one in enumerate(alone):
        for name, value in one.state_dict().items():
            assert_exact(state[name][k], value)


@pytest.mark.parametrize("preset", ["tuned", "paper"])
def test_each_is_the_one_made_alone_with_its_seed(preset):
    """Weights, delays and spikes are equal in training and evaluation."""
    together, *alone = networks(preset=preset, lr_final=0.5)
    assert_each_is(together, alone)
    assert together.xe.w.mT.is_contiguous()
    batches = [(rates(2), torch.tensor([0, 1])), (rates(3), torch.tensor([0, 1, 1]))]
    together.fit(batches, epochs=2)
    counts, labels = together.respond(batches)
    assert counts.shape == (3, 5, 6)
    for k, one in enumerate(alone):
        torch.manual_seed(5 + k)
        one.xe.reset_parameters()
        if preset == "paper":
            torch.randint(2, one.xe.w.shape, dtype=torch.uint8)  # draws the delays
        one.fit(batches, epochs=2)
        answer = one.respond(batches)
        assert answer[0].sum() > 0
        assert_exact((counts[k], labels), answer)
    assert_each_is(together, alone)
    assert (together.xe.w[0] != together.xe.w[1]).any()


def test_each_may_be_presented_others():
    together, *alone = networks()
    seeds = torch.arange(9).view(3, 3)
    for hz, of_seeds in (
        (torch.stack([rates(3) * (1 + k) / 3 for k in range(3)]), seeds),
        (rates(3), seeds),
        (rates(3), seeds[0]),
    ):
        counts = together.present(hz, seeds=of_seeds).counts
        for k, one in enumerate(alone):
            own_hz = hz[k] if hz.dim() == 4 else hz
            own_seeds = of_seeds[k] if of_seeds.dim() == 2 else of_seeds
            assert_exact(counts[k], one.present(own_hz, seeds=own_seeds).counts)
    trains = torch.stack([spikes(2), ~spikes(2), spikes(2).flip(1)])
    counts = together.present(trains).counts
    for k, one in enumerate(alone):
        assert_exact(counts[k], one.present(trains[k]).counts)
    assert_each_is(together, alone)


@pytest.mark.parametrize("preset", ["tuned", "paper"])
def test_step_by_step(preset):
    together, *alone = networks(preset=preset)
    for separate in (False, True):
        for model in (together, *alone):
            model.reset()
        for s in spikes(3).transpose(0, 1)[:20]:
            together.step(s if separate else s[0])
            together.learn()
            for k, one in enumerate(alone):
                one.step(s[k] if separate else s[0])
                one.learn()
                for name in ("s", "v", "x"):
                    assert_exact(getattr(together.exc, name)[k], getattr(one.exc, name))
                assert_exact((together.inp.s[k], together.inp.x[k]), (one.inp.s, one.inp.x))
        for model in (together, *alone):
            model.normalize()
    assert_each_is(together, alone)
    assert (together.exc.theta > together.settings.theta_init).any()


VARIED = {
    "lr": [0.02, 0.05, 0.0],
    "norm": [0.3, 0.2, 0.5],
    "w_init": [0.3, 0.2, 0.1],
    "theta_init": [0.0, 5.0, -0.5],
    "theta_plus": [0.3, 0.0, 1.0],
    "lr_final": [1.0, 0.5, 0.1],
    "tau_theta": [None, 1e3, 1e7],
    "tau": [100.0, 50.0, 80.0],
    "tau_pre": [20.0, 10.0, 5.0],
    "w_max": [1.0, 0.9, 2.0],
    "v_threshold": [3.0, 2.0, 4.0],
}


@pytest.mark.parametrize("preset", ["manual", "paper"])
def test_each_has_its_own_settings(preset):
    """Network k equals a single one with the k-th values: random numbers, whole presentations, step by step."""
    varied = VARIED
    if preset == "paper":
        varied = {**VARIED, "v_threshold": [-60.0, -62.0, -64.0], "v_rest": [-65.0, -66.0, -64.0]}
        varied |= {"e_inh": [-100.0, -90.0, -110.0], "tau_g_exc": [1.0, 2.0, 1.5]}
    fixed = PAPER if preset == "paper" else {"v_reset": 0.0, "inhibition": 0.5}
    fixed = {name: value for name, value in fixed.items() if name not in varied}
    fixed |= {"duration": 60}
    together = DiehlAndCook2015(6, (5, 4), preset, networks=3, seeds=[5, 6, 5], **fixed, **varied)
    alone = []
    for k, seed in enumerate((5, 6, 5)):
        torch.manual_seed(seed)
        chosen = {name: values[k] for name, values in varied.items()}
        alone.append(DiehlAndCook2015(6, (5, 4), preset, **fixed, **chosen))
    assert_each_is(together, alone)
    assert_exact(together.exc.v, torch.stack([one.exc.v for one in alone]))
    seeds = torch.arange(3)
    for train in (True, True, False):
        for model in (together, *alone):
            model.train(train)
            model.set_progress(0.5)
        counts = together.present(rates(), seeds=seeds).counts
        assert counts.any()
        for k, one in enumerate(alone):
            assert_exact(counts[k], one.present(rates(), seeds=seeds).counts)
        assert_each_is(together, alone)
    for model in (together, *alone):
        model.train()
        model.reset()
        for t in range(20):
            model.step(spikes()[0, t])
            model.learn()
        model.normalize()
    assert_each_is(together, alone)
    assert_exact(together.exc.v, torch.stack([one.exc.v for one in alone]))
    assert (together.xe.w[0] != together.xe.w[2]).any()


def test_seeds_of_any_kind_and_copies():
    torch.manual_seed(6)
    single = DiehlAndCook2015(6, 20)
    several = DiehlAndCook2015(6, 20, networks=2, seeds=(3, 6))
    assert_exact(several.xe.w[1], single.xe.w)
    copied = copy.deepcopy(several)
    several.present(rates())
    copied.present(rates())
    assert_exact(dict(several.state_dict()), dict(copied.state_dict()))
    copied.load_state_dict(several.state_dict())
    assert "networks=2" in repr(several)
    assert repr(several.xe) == "ExcitatorySynapses(20, 6)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"networks": 0}, ValueError, "networks must be at least 1, got 0"),
        ({"networks": 2.0}, TypeError, "networks must be an integer, got float"),
        ({"seeds": [1]}, ValueError, "seeds need networks, got networks=None"),
        ({"networks": 2, "seeds": 1}, TypeError, "seeds must be a sequence of integers, got int"),
        ({"networks": 2, "seeds": [1]}, ValueError, "seeds must be 2, one a network, got 1"),
        ({"networks": 1, "seeds": [-1]}, ValueError, "seeds must be at least 0, got -1"),
        (
            {"networks": 2, "preset": "paper"},
            ValueError,
            "networks must be None with min_spikes, which presents other images again to each, "
            r"got networks=2 and min_spikes=5",
        ),
        ({"norm": [0.1]}, ValueError, "norm must be one, got 1"),
        ({"networks": 2, "norm": [0.1]}, ValueError, "norm must be one for all or 2, one a network"),
        (
            {"networks": 2, "refractory": [5.0, 2.0]},
            ValueError,
            "refractory must be the same for all networks, got 2.0 and 5.0",
        ),
        (
            {"networks": 2, "rule": ["pair", "triplet"]},
            ValueError,
            "kind must be the same for all networks, got additive and triplet",
        ),
        ({"networks": 2, "duration": [250, 300]}, ValueError, "duration must be the same for all networks"),
    ],
)
def test_errors_of_the_constructor(arguments, error, message):
    with pytest.raises(error, match=f"DiehlAndCook2015: {message}"):
        DiehlAndCook2015(6, 20, **arguments)


def test_errors_name_the_shapes_of_several_networks():
    model = DiehlAndCook2015(6, (5, 4), networks=3)
    with pytest.raises(ValueError, match=r"\[5, 4\] or \[20\], or 3 before it, got \[2, 20\]"):
        model.step(torch.ones(2, 20))
    with pytest.raises(ValueError, match=r"\[5, 4\] or \[P, 5, 4\] or \[3, P, 5, 4\], got \[2, 2, 5, 4\]"):
        model.present(torch.full((2, 2, 5, 4), 0.5))
