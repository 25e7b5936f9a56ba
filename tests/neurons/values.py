"""NaN, infinities, denormals, membranes at the threshold: the policy of docs/testing.md, on every backend."""

import itertools
import math

import pytest
import torch
from cases import check_each
from samples import SURROGATES, Sample, assert_equal, firing, gradients, over_neurons

INF, NAN = math.inf, math.nan


def run(op, x, device, dtype=torch.float32, **options):
    x = torch.tensor(x, dtype=dtype, device=device)
    unscaled = {"decay_input": False} if op.accepts("decay_input") else {}
    options = {**unscaled, **options}
    if op.fires:
        options["return_v_seq"] = True
        spikes, *_, v_seq = op(x=x, **options)
        return spikes.tolist(), v_seq
    return None, op(x=x, **options)[0]


@over_neurons("op", firing)
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_nan_never_fires_and_stays(backend, op, v_reset):
    spikes, v_seq = run(op, [2.0, NAN, 5.0, INF, 5.0], backend.device, v_reset=v_reset)
    assert spikes == [1, 0, 0, 0, 0]
    assert v_seq.isnan().tolist() == [False, True, True, True, True]


@over_neurons("op", firing)
def test_nan_in_one_neuron_reaches_no_other(backend, op):
    arguments = Sample(op, "plain", (40, 70), torch.float32).arguments(backend.device)
    clean = op(**arguments)
    arguments["x"] = arguments["x"].clone()
    arguments["x"][3, 33] = NAN
    dirty = op(**arguments)
    others = torch.arange(70) != 33
    assert_equal([d[..., others] for d in dirty], [c[..., others] for c in clean])
    grads = gradients(op, arguments)
    assert all(g[..., others].isfinite().all() for g in grads.values())


@over_neurons("op", firing)
def test_gradient_of_spikes_of_a_nan_membrane_is_nan(backend, op):
    x = torch.tensor([[0.25], [NAN], [0.5], [0.25]], device=backend.device, requires_grad=True)

    def check(case):
        name, detach_reset, v_reset = case
        options = {"surrogate": name, "detach_reset": detach_reset, "v_reset": v_reset}
        (grad,) = torch.autograd.grad(op(x=x, **options)[0].sum(), x)
        assert grad.isnan().all()

    names = [name for name in SURROGATES if name != "straight_through"]
    check_each(itertools.product(names, [False, True], [0.0, None]), check)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@over_neurons("op", firing)
def test_neuron_fires_exactly_at_its_threshold(backend, op, dtype):
    spikes, v_seq = run(op, [1.0], backend.device, dtype, **op.steady)
    assert spikes == [1]
    assert v_seq.item() == 0
    below = torch.nextafter(torch.tensor(1.0).double(), torch.tensor(0.0).double())
    if dtype != torch.float64:
        below = 1.0 - torch.finfo(dtype).eps / 2
    spikes, v_seq = run(op, [float(below)], backend.device, dtype, **op.steady)
    assert spikes == [0]
    assert v_seq.item() == float(below)


@over_neurons("op", firing)
def test_any_threshold_is_met_at_its_own_value(backend, op):
    def check(threshold):
        narrow = torch.tensor(threshold, dtype=torch.float32).item()
        for v_threshold in (threshold, torch.tensor(threshold, device=backend.device)):
            spikes, _ = run(
                op,
                [narrow],
                backend.device,
                v_threshold=v_threshold,
                v_reset=-2.0,
                **rest(op, backend.device),
                **op.steady,
            )
            assert spikes == [1]

    check_each([0.0, -1.0, 1e-40, 1e30, 0.1, 1 / 3], check)


def rest(op, device):
    """Return arguments with which v before the first step is 0, whatever the reset."""
    return {"v_rest": 0.0} if op.accepts("v_rest") else {"v": torch.zeros((), device=device)}


@over_neurons("op", lambda op: [] if op.runs_away else firing(op))
def test_infinite_threshold_of_a_neuron_silences_it(backend, op):
    threshold = torch.tensor([1.0, INF, 1.0], device=backend.device)
    arguments = Sample(op, "plain", (40, 3), torch.float32).arguments(backend.device)
    spikes = op(**arguments, v_threshold=threshold)[0]
    assert spikes.sum(0).tolist()[1] == 0
    assert_equal(spikes[:, ::2], op(**arguments)[0][:, ::2])
    grads = gradients(op, {**arguments, "v_threshold": threshold})
    assert grads["x"].isfinite().all()


@over_neurons("op", lambda op: [] if op.runs_away else firing(op))
def test_a_soft_reset_by_an_infinite_threshold_leaves_the_membrane(backend, op):
    thresholds = (torch.tensor(value, device=backend.device) for value in (INF, 1e30))
    found = [run(op, [0.5, 2.0, -1.0], backend.device, v_reset=None, v_threshold=threshold) for threshold in thresholds]
    assert found[0][0] == found[1][0] == [0, 0, 0]
    assert found[0][1].isfinite().all()
    assert_equal(found[0][1], found[1][1])


@over_neurons("op", lambda op: [op] if op.exact else [])
def test_denormals_are_kept(backend, op):
    tiny = torch.tensor(1e-40).item()
    _, v_seq = run(op, [tiny], backend.device)
    assert v_seq.item() == tiny
    _, v_seq = run(op, [5e-324], backend.device, torch.float64)
    assert v_seq.item() == 5e-324


@over_neurons("op", firing)
def test_huge_input_fires_and_resets(backend, op):
    spikes, v_seq = run(op, [1e30, 0.0], backend.device, **op.steady)
    assert spikes[0] == 1
    assert v_seq[0].item() == 0
    spikes, v_seq = run(op, [-1e30, 0.0], backend.device, **op.steady)
    assert spikes == [0, 0]


@over_neurons("op", firing)
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_all_fire_or_none(backend, op, v_reset):
    for drive, rate in ((8.0, 1.0), (-1.0, 0.0), (0.0, 0.0)):
        x = torch.full((50, 70), drive, device=backend.device)
        assert op(x=x, v_reset=v_reset, **op.steady)[0].mean().item() == rate


SPECIAL_VARIANTS = ("plain", "soft", "unscaled", "decay_0", "v_rest", "v_reset")
SPECIAL = (0.0, -0.0, 1.0, -1.0, NAN, INF, -INF, 1e-40, -1e-40, 3e38, -3e38, 1e30, 0.5, 2.0)


@over_neurons("op variant", lambda op: [(op, v) for v in SPECIAL_VARIANTS if v in op.variants])
def test_every_run_of_special_values_is_that_of_the_reference(kernels, op, variant):
    runs = torch.tensor(list(itertools.product(SPECIAL, repeat=3))).T.contiguous()
    runs = runs.to(kernels.device)
    options = op.variants[variant]
    got, want = op(x=runs, **options), op.reference(x=runs, **options)
    assert_equal(got, want)
    # Gradients are compared like membranes: those after NaN and infinity are NaN or infinite.
    got = gradients(op, {"x": runs, **options})["x"]
    want = gradients(op.reference, {"x": runs, **options})["x"]
    finite = want.isfinite().all(0)
    assert finite.sum() > 100
    assert_equal(got.isfinite().all(0), finite)
    torch.testing.assert_close(got[:, finite], want[:, finite], rtol=1e-5, atol=1e-5)


# Values of states, and of parameters. Products of huge values are infinite in the reference, too.
SPECIAL_STATES = (*SPECIAL, 0.99, 100.0)
SPECIAL_DECAYS = (0.0, 0.5, 1.0, 0.9, 1e-40)
SPECIAL_PARAMETERS = {
    "v_threshold": (0.5, 1.0, 2.0, -1.0, 1e-40, INF, 1e30),
    "v_reset": (0.0, 0.5, -1.0, 1e-40, 1e30, -3e38),
    "v_rest": (0.0, 0.5, 1e-40, -1e30),
    "delta_t": (0.002, 1.0, 1e-3, 0.5, 100.0, 1e-30, -1.0),
}


@over_neurons("op", lambda op: [op])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_no_gradient_is_nan_that_the_reference_has_as_a_number(kernels, op, dtype, v_reset):
    """Check gradients of every tensor argument where those of the reference are finite: no 0 times infinity."""
    if v_reset is None and not op.accepts("v_reset"):
        pytest.skip("never fires")
    generator = torch.Generator().manual_seed(0)
    neurons = 3000

    def drawn(values, *shape):
        chosen = torch.randint(len(values), shape, generator=generator)
        return torch.tensor(values, dtype=dtype)[chosen].to(kernels.device)

    arguments = {"x": drawn(SPECIAL_STATES, 3, neurons)}
    arguments |= {name: drawn(SPECIAL_STATES, neurons) for name in op.states}
    arguments |= {name: drawn(SPECIAL_DECAYS, neurons) for name in op.decays}
    for name in op.params:
        if name != "v_reset" or v_reset is not None:
            arguments[name] = drawn(SPECIAL_PARAMETERS.get(name, (0.0, 1.0, -1.0, 0.5, 1e-40, 1e30, 3e38)), neurons)
    if v_reset is None:
        arguments["v_reset"] = None
    want, got = gradients(op.reference, arguments), gradients(op, arguments)
    finite = torch.stack([g.isfinite().view(-1, neurons).all(0) for g in want.values() if g is not None]).all(0)
    assert finite.sum() > 50
    for name, grad in got.items():
        if grad is not None:
            assert not grad.view(-1, neurons)[:, finite].isnan().any(), name


@over_neurons("op", firing)
def test_spikes_are_0_or_1_and_nothing_else(backend, op):
    runs = torch.tensor(list(itertools.product(SPECIAL, repeat=3))).T.contiguous()
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        spikes = op(x=runs.to(backend.device, dtype))[0]
        assert ((spikes == 0) | (spikes == 1)).all()
        assert spikes.dtype == dtype
