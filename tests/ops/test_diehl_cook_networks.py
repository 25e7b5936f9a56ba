"""Many networks of Diehl and Cook at once: each equals, bit for bit, a single network."""

import pytest
import torch
from backends import PRESENT, force
from diehl_cook_cases import WAYS, emulate
from raw_calls import opcheck

from snnfast import ops, plasticity, reference
from snnfast.ops import Events, Rates
from snnfast.reference.call import flatten

RULE = plasticity.triplet(1e-3, 0.03, lr_pre_triplet=1e-3, w_max=9.0)
OPS = {
    "diehl_cook_": {"v_threshold": 3.0, "v_reset": 0.0, "inhibition": 0.5, "theta_plus": 0.3},
    "diehl_cook_ with conductances": {
        "synapses": "conductance",
        "tau": 10.0,
        "rest": 3.0,
        "w_inh_exc": 0.5,
        "longest_delay": 3,
    },
}
OPERATORS = dict(zip(OPS, ("diehl_cook_", "diehl_cook_conductance_"), strict=True))
LEARNS = {"rule": RULE, "norm": 4.0, "return_state": True}
FROZEN = {"rule": None, "theta_plus": 0.0, "tau_theta": None}


def sample(name, networks, neurons=6, inputs=9, count=2, steps=12):
    """Return shared rates with a seed for each network, weights ``[K, N, I]``, thresholds, and other arguments."""
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(networks, inputs, neurons, generator=generator).mT
    theta = torch.rand(networks, neurons, generator=generator)
    hz = 500 * torch.rand(count, inputs, generator=generator)
    seeds = torch.arange(networks * count).view(networks, count)
    arguments = dict(OPS[name])
    if name != "diehl_cook_":
        theta = 19 + theta.double()
        arguments["delays"] = (torch.arange(w.numel()).view(w.shape) % 4).to(torch.uint8)
    return Rates(hz, steps, seeds), w, theta, arguments


def forms(x):
    """Return inputs of every form by name: seeds, rates, spikes and events of each network, and shared by all."""
    networks, count = x.seeds.shape
    p = x.hz / 1000
    spikes = torch.stack(
        [
            reference.poisson(p[k % count], x.num_steps, seed=seed.view(1), dtype=torch.uint8)
            for k, seed in enumerate(x.seeds.flatten())
        ]
    ).view(networks, count, x.num_steps, -1)
    return {
        "seeds": x,
        "rates": x._replace(hz=torch.stack([x.hz * (1 + k) / networks for k in range(networks)])),
        "spikes": spikes,
        "strided spikes": spikes.transpose(0, 2).contiguous().transpose(0, 2),
        "events": Events.from_dense(spikes),
        "the same rates": x._replace(seeds=x.seeds[0]),
        "the same spikes": spikes[0],
        "the same events": Events.from_dense(spikes[0]),
    }


def of_network(x, k):
    """Return the input of network ``k``."""

    def part(value, dim):
        return value if value.dim() == dim else value[k]

    if isinstance(x, Rates):
        return x._replace(hz=part(x.hz, 2), seeds=part(x.seeds, 1))
    if isinstance(x, Events):
        offsets = part(x.offsets, 2)
        first, last = offsets[0, 0], offsets[-1, -1]
        return Events(x.inputs[first:last], offsets - first)
    return part(x, 3)


def on_device(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return type(value)(*(on_device(v, device) for v in value))
    return value


def results(name, x, w, theta, arguments, calls):
    """Return the results of several calls in turn: counts, spikes, states, weights, thresholds."""
    w, theta, collected = w.clone(), theta.clone(), []
    state = None
    for settings in calls:
        result = ops.diehl_cook_(x, w, theta, state=state, return_spikes=True, **{**arguments, **settings})
        state = result.state
        collected += [result.counts, result.spikes, *(value for value in state or () if value is not None)]
    return [value.cpu() for value in (*collected, w, theta)]


def assert_each_is_what_it_is_alone(name, x, w, theta, arguments, calls):
    together = results(name, x, w, theta, arguments, calls)
    assert together[0].sum() >= len(w)
    for k in range(len(w)):
        delays = {"delays": arguments["delays"][k]} if "delays" in arguments else {}
        alone = results(name, of_network(x, k), w[k], theta[k], {**arguments, **delays}, calls)
        for got, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(got[k], expected, rtol=0, atol=0)


FORMS = list(forms(sample("diehl_cook_", 3)[0]))


# The reference and the emulated CUDA, which are slow, run each form in one of the two.
CASES = [
    (backend, name, form)
    for backend in ("reference", *PRESENT)
    for m, name in enumerate(OPS)
    for k, form in enumerate(FORMS)
    if backend in ("cpu", "cuda") or (k + m) % 2
]


@pytest.mark.parametrize(("backend", "name", "form"), CASES)
def test_each_is_what_it_is_alone(backend, name, form):
    """Learn and continue from the state, then run without either."""
    x, w, theta, arguments = sample(name, 3)
    with force(backend) as on:
        x, w, theta = (on_device(v, on.device) for v in (forms(x)[form], w, theta))
        arguments = {key: on_device(value, on.device) for key, value in arguments.items()}
        assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [LEARNS, LEARNS])
        assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [FROZEN])


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
@pytest.mark.parametrize("way", WAYS)
def test_wherever_cuda_has_their_memory(way, monkeypatch):
    name = "diehl_cook_"
    emulate(monkeypatch, way)
    x, w, theta, arguments = sample(name, 2, 130, 49, 2, 12)
    with force("cuda_emulation"):
        assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [LEARNS, LEARNS])
        assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [FROZEN])


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(("networks", "neurons", "count", "steps"), [(11, 4, 1, 8), (3, 1100, 1, 7), (2, 5, 9, 8)])
def test_more_than_a_device_runs_at_the_same_time(kernels, name, networks, neurons, count, steps):
    """Rows of a grid and threads run several networks in turn."""
    x, w, theta, arguments = sample(name, networks, neurons, 5, count, steps)
    if name == "diehl_cook_":
        arguments |= {"one_winner": True, "inhibition_delay": 0}
    x, w, theta = (on_device(v, kernels.device) for v in (x, w, theta))
    arguments = {key: on_device(value, kernels.device) for key, value in arguments.items()}
    assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [LEARNS, LEARNS])
    assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [FROZEN])


def own_settings(name, networks):
    """Return values for all settings in which networks may differ."""

    def vary(value, by):
        return [value + by * k for k in range(networks)]

    varied = {
        "rule": [
            plasticity.triplet(1e-3 * k, 0.03 * k, lr_pre_triplet=1e-3, w_max=9.0 + k, tau_pre=5.0 + k)
            for k in range(networks)
        ],
        "norm": vary(4.0, 0.5),
        "theta_plus": vary(0.0, 0.2),
        "tau_theta": [None, 30.0, 1e6][:networks] + [50.0] * (networks - 3),
    }
    if name == "diehl_cook_":
        changes = {"tau": (20.0, 9.0), "v_threshold": (3.0, 0.5), "v_reset": (0.0, -0.5)}
        changes |= {"inhibition": (0.5, 0.25)}
    else:
        changes = {"tau": (10.0, 3.0), "v_rest": (-65.0, 1.0), "v_reset": (-65.0, -2.0)}
        changes |= {"v_threshold": (-72.0, 0.5), "tau_inh": (10.0, 2.0), "v_rest_inh": (-60.0, 1.0)}
        changes |= {"v_reset_inh": (-45.0, -1.0), "v_threshold_inh": (-40.0, -1.0)}
        changes |= {"tau_g_exc": (1.0, 0.5), "tau_g_inh": (2.0, 0.5), "e_exc": (0.0, 1.0)}
        changes |= {"e_inh": (-100.0, 3.0), "w_exc_inh": (10.4, 1.0), "w_inh_exc": (0.5, 0.5)}
    return {**varied, **{n: vary(*change) for n, change in changes.items()}}


def part_of(settings, varied, k):
    """Return the settings of network ``k``; ``varied`` has a value for each network."""
    return {n: varied[n][k] if n in varied and v is varied[n] else v for n, v in settings.items()}


@pytest.mark.parametrize("name", OPS)
def test_each_has_its_own_settings(backend, name):
    """With all settings at once, and with each alone, network k equals a single one with the k-th values."""
    networks = 3
    x, w, theta, arguments = sample(name, networks, count=2 if backend.name == "reference" else 5)
    x, w, theta = (on_device(v, backend.device) for v in (x, w, theta))
    arguments = {key: on_device(value, backend.device) for key, value in arguments.items()}
    varied = own_settings(name, networks)
    for chosen in (varied, *({n: v} for n, v in varied.items() if backend.name == "cpu")):
        learns = {**LEARNS, **chosen}
        frozen = {**FROZEN, **chosen, "rule": None, "norm": None}
        calls = [learns, learns, {**frozen, "return_state": False}]
        shared = {n: v for n, v in arguments.items() if n not in chosen}
        together = results(name, x, w, theta, shared, calls)
        for k in range(networks):
            delays = {"delays": shared["delays"][k]} if "delays" in shared else {}
            alone = results(
                name,
                of_network(x, k),
                w[k],
                theta[k],
                {**shared, **delays},
                [part_of(call, chosen, k) for call in calls],
            )
            for got, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(got[k], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPS)
def test_a_state_at_rest_is_that_of_each_network(name):
    """This holds also where nothing is presented."""
    x, w, theta, arguments = sample(name, 3)
    varied = own_settings(name, 3)
    arguments = {n: v for n, v in arguments.items() if n not in varied}
    none = x._replace(hz=x.hz[:0], seeds=x.seeds[:, :0])
    state = ops.diehl_cook_(none, w, theta, return_state=True, **arguments, **varied).state
    expected = varied.get("v_rest", [0.0] * 3)
    assert state.v[:, 0].tolist() == expected


@pytest.mark.parametrize("name", OPS)
def test_on_several_threads(name):
    x, w, theta, arguments = sample(name, 5, count=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with force("cpu"):
            assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [LEARNS, LEARNS])
            assert_each_is_what_it_is_alone(name, x, w, theta, arguments, [FROZEN])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("layout", ["rows", "networks inside", "sliced"])
def test_layouts(kernels, name, layout):
    x, w, theta, arguments = sample(name, 3)
    laid = {
        "rows": w.contiguous(),
        "networks inside": w.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        "sliced": torch.full((4, 8, 20), 0.5)[1:, 1:-1, 1:-1:2],
    }[layout]
    laid = laid.copy_(w).to(kernels.device)
    x, theta = on_device(x, kernels.device), theta.to(kernels.device)
    arguments = {key: on_device(value, kernels.device) for key, value in arguments.items()}
    ops.diehl_cook_(x, laid, theta, **LEARNS, **arguments)
    w, again = w.to(kernels.device).clone(), sample(name, 3)[2].to(kernels.device)
    ops.diehl_cook_(x, w, again, **LEARNS, **arguments)
    torch.testing.assert_close((laid.cpu(), theta.cpu()), (w.cpu(), again.cpu()), rtol=0, atol=0)


@pytest.mark.parametrize("name", OPS)
def test_no_network_and_the_fake(kernels, name):
    for networks in (0, 2):
        x, w, theta, arguments = sample(name, networks, neurons=3, inputs=4, steps=3)
        x, w, theta = (on_device(v, kernels.device) for v in (x, w, theta))
        arguments = {key: on_device(value, kernels.device) for key, value in arguments.items()}
        settings = {**LEARNS, **arguments, "return_spikes": True}
        result = ops.diehl_cook_(x, w, theta, **settings)
        assert result.counts.shape == (networks, 2, 3)
        assert result.spikes.shape[:2] == (networks, 2)
        assert all(value.shape[0] == networks for value in result.state if value is not None)
    call = ops.diehl_cook_.check(x, w, theta, **settings)
    if kernels.name == "cpu":
        opcheck(getattr(kernels.ops, OPERATORS[name]).default, flatten(call))
        settings |= {"tau_theta": [10.0, None], "theta_plus": [0.0, 0.1]}
        call = ops.diehl_cook_.check(x, w, theta, **settings)
        assert call.numbers.shape == (2, 20 if name == "diehl_cook_" else 32)
        opcheck(getattr(kernels.ops, OPERATORS[name]).default, flatten(call))


WRONG = {
    "w": ({"w": torch.ones(2, 3, 6, 9)}, r"w must have shape \[N, I\] or \[K, N, I\]"),
    "theta": ({"theta": torch.ones(6)}, r"theta must have shape \[3, 6\], got \[6\]"),
    "spikes": ({"x": torch.ones(2, 2, 12, 9)}, r"x must have shape \[P, T, 9\] or \[3, P, T, 9\], got \[2, 2, 12, 9\]"),
    "hz": (
        {"x": Rates(torch.ones(3, 2, 8), 12, torch.arange(2))},
        r"x.hz must have shape \[P, 9\] or \[3, P, 9\], got \[3, 2, 8\]",
    ),
    "seeds": (
        {"x": Rates(torch.ones(2, 9), 12, torch.ones(2, 3).long())},
        r"x.seeds must have shape \[2\] or \[3, 2\], got \[2, 3\]",
    ),
    "offsets": (
        {"x": Events(torch.zeros(0).int(), torch.zeros(2, 2, 13).long())},
        r"x.offsets must have shape \[P, T \+ 1\] or \[3, P, T \+ 1\], got \[2, 2, 13\]",
    ),
    "events": (
        {"x": Events(torch.tensor([0, 9]).int(), torch.tensor([[[0, 1]], [[0, 1]], [[0, 2]]]))},
        r"x.inputs must lie in \[0, 8\], got values from 0 to 9",
    ),
    "state": ({"state": 6}, r"state.v must have shape \[3, 6\], got \[6\]"),
    "settings": ({"theta_plus": [0.1, 0.2]}, "theta_plus must be one for all or 3, one a network, got 2"),
    "a setting": ({"theta_plus": [0.1, 0.2, -1.0]}, "network 2: theta_plus must be at least 0, got -1"),
    "rules": ({"rule": [RULE]}, "rule must be one for all or 3, one a network, got 1"),
    "kinds": (
        {"rule": [RULE, RULE, plasticity.pair()]},
        "rules of networks must be of one kind and trace, got triplet, nearest and additive, nearest",
    ),
    "bounds": ({"rule": [RULE, plasticity.triplet(w_max=1e-3), RULE]}, r"w must lie in \[0, 0.001\]"),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("case", WRONG)
def test_errors_name_what_each_network_is_to_be_given(name, case):
    changes, message = WRONG[case]
    x, w, theta, arguments = sample(name, 3)
    call = {"x": x, "w": w, "theta": theta, **arguments, **changes}
    if case == "theta":
        call["theta"] = call["theta"].to(theta.dtype)
    if case == "state":
        alone = {k: v[0] if k == "delays" else v for k, v in arguments.items()}
        single = x._replace(seeds=x.seeds[0])
        call["state"] = ops.diehl_cook_(single, w[0], theta[0], return_state=True, **alone).state
    before = w.clone()
    with pytest.raises(ValueError, match=f"^diehl_cook_: {message}"):
        ops.diehl_cook_(**call)
    torch.testing.assert_close(w, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (r"theta must have shape \[3, 6\], got \[6\]", {"theta": torch.ones(6)}),
        (r"hz must have shape \[3, 2, 9\], got \[2, 2, 9\]", {"hz": torch.ones(2, 2, 9)}),
        (r"seeds must have shape \[3, 2\], got \[2, 2\]", {"seeds": torch.ones(2, 2).long()}),
        (r"state_v must have shape \[3, 6\], got \[6\]", {"state": 6}),
        (r"numbers must have shape \[3, ", {"numbers": torch.ones(3, 5).double()}),
        ("numbers must be float64, got float32", {"numbers": 20}),
    ],
)
@pytest.mark.parametrize("backend", [b for b in PRESENT if b != "cuda"])
def test_raw_calls_with_wrong_arguments_are_refused(name, text, changes, backend):
    x, w, theta, arguments = sample(name, 3)
    call = ops.diehl_cook_.check(x, w, theta, return_state=True, **arguments)
    if "hz" in changes or "seeds" in changes:
        changes = {"x": call.x._replace(**changes)}
    if "state" in changes:
        changes = {"state": [value[0] for value in call.state]}
    if isinstance(changes.get("numbers"), int):
        changes = {"numbers": torch.ones(3, 20 if name == "diehl_cook_" else 32)}
    if "theta" in changes:
        changes = {"theta": changes["theta"].to(theta.dtype)}
    with force(backend) as on, pytest.raises(RuntimeError, match=f"{OPERATORS[name]}: .*{text}"):
        getattr(on.ops, OPERATORS[name])(*flatten(call._replace(**changes)))


@pytest.mark.parametrize("name", OPS)
def test_weights_are_checked_with_the_bounds_of_their_network(name):
    x, w, theta, arguments = sample(name, 2)
    w[1] *= 5
    rules = [plasticity.triplet(lr_pre_triplet=1e-3, w_max=high) for high in (1.0, 5.0)]
    ops.diehl_cook_(x, w, theta, rule=rules, **arguments)
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\]"):
        ops.diehl_cook_(x, w, theta, rule=rules[::-1], **arguments)
