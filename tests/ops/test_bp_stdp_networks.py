"""Many networks trained by BP-STDP at once: each equals, bit for bit, a single network."""

import itertools
import math

import pytest
import torch
from backends import PRESENT, force
from samples import assert_equal

from snnfast import ops
from snnfast.reference.call import flatten

SIZES = (9, 40, 33, 3)
THRESHOLDS = [0.9] * 3
DOUBLE = torch.empty(0, dtype=torch.float64)


def sample(networks, samples=3, num_steps=6):
    """Return weights ``[K, N, I]``, spikes ``[K, T, P, I]``, labels ``[K, P]``, desired times ``[K, T, P]``."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(networks, o, i, generator=generator) for i, o in itertools.pairwise(SIZES)]
    x = torch.rand(networks, num_steps, samples, SIZES[0], generator=generator) < 0.3
    labels = torch.randint(SIZES[-1], (networks, samples), generator=generator)
    desired = torch.rand(networks, num_steps, samples, generator=generator) < 0.4
    return weights, x, labels, desired


def rates(networks, samples=3, num_steps=6):
    generator = torch.Generator().manual_seed(1)
    hz = 600 * torch.rand(networks, samples, SIZES[0], generator=generator)
    return ops.Rates(hz, num_steps, torch.arange(networks * samples).view(networks, samples))


def forms(networks):
    """Return inputs, labels and desired times by form: different for each network, or shared."""
    _, x, labels, desired = sample(networks)
    drawn = rates(networks)
    return {
        "spikes": (x, labels, desired),
        "strided spikes": (x.mT.float().mT, labels, desired.mT.clone().mT),
        "the same spikes": (x[0], labels, desired),
        "all the same": (x[0], labels[0], desired[0]),
        "rates": (drawn, labels[0], desired),
        "seeds": (drawn._replace(hz=drawn.hz[0]), labels, desired[0]),
        "the same seeds": (drawn._replace(seeds=drawn.seeds[0]), labels, desired),
    }


def select(value, dim, k):
    if isinstance(value, ops.Rates):
        return value._replace(hz=select(value.hz, 2, k), seeds=select(value.seeds, 1, k))
    return value if value.dim() == dim else value[k]


def on_device(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return value._replace(hz=value.hz.to(device), seeds=value.seeds.to(device))


def own_settings(networks):
    """Return learning rates (one of them 0) and thresholds that differ; one layer has the same threshold everywhere."""
    lr = [0.1 * k / networks for k in range(networks)]
    return lr, [[0.3 + 0.7 * k / networks for k in range(networks)], 0.9, ([1.3, 0.4, 0.7] * 3)[:networks]]


def own_number(value, k):
    return value if isinstance(value, float) else value[k]


def everything(weights, x, labels, desired, lr=0.05, thresholds=THRESHOLDS, **options):
    """Return all results of learning, of an evaluation after it, and of one that continues from its state."""
    weights = [w.clone() for w in weights]
    how = {"thresholds": thresholds, "return_hidden": True, "return_state": True}
    learned = ops.bp_stdp_network_(weights, x, labels, desired, lr=lr, **options, **how)
    answer = ops.bp_stdp_network_(weights, x, **how)
    after = ops.bp_stdp_network_(weights, x, state=answer.state, **how)
    return [v for r in (learned, answer, after) for v in (r.spikes, *r.hidden, *r.state)] + weights


def assert_each_is_what_it_is_alone(weights, x, labels, desired, lr=0.05, thresholds=THRESHOLDS, **options):
    together = everything(weights, x, labels, desired, lr, thresholds, **options)
    for k in range(len(weights[0])):
        alone = everything(
            [w[k] for w in weights],
            select(x, 3, k),
            select(labels, 1, k),
            select(desired, 2, k),
            own_number(lr, k),
            [own_number(of_layer, k) for of_layer in thresholds],
            **options,
        )
        for got, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(got[k], expected, rtol=0, atol=0)
    assert together[0].any()
    assert all((a != b).any() for a, b in zip(together[-len(weights) :], weights, strict=True))


@pytest.mark.parametrize("form", forms(1))
def test_each_is_what_it_is_alone(backend, form):
    update = ("step", "sequence")[list(forms(1)).index(form) % 2]
    weights = [w.to(backend.device) for w in sample(3)[0]]
    inputs = (on_device(v, backend.device) for v in forms(3)[form])
    assert_each_is_what_it_is_alone(weights, *inputs, update=update, batch=2)


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
@pytest.mark.parametrize(("samples", "schedule"), [(2, "fwd"), (20, "rand:3")])
def test_without_shared_memory(samples, schedule, monkeypatch):
    weights, *inputs = sample(2, samples=samples, num_steps=3)
    options = {"update": "sequence", "batch": samples}
    monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", schedule)
    with force("cuda_emulation"):
        expected = everything(weights, *inputs, 0.05, THRESHOLDS, **options)
        assert_each_is_what_it_is_alone(weights, *inputs, **options)
        monkeypatch.setenv("SNNFAST_EMULATION_SHARED", "0")
        assert_equal(everything(weights, *inputs, 0.05, THRESHOLDS, **options), expected)


@pytest.mark.parametrize("networks", [2, 9])
def test_rows_of_the_grid(kernels, networks):
    """With many networks a block runs several in turn."""
    weights, x, labels, desired = (
        [t.to(kernels.device) for t in v] if isinstance(v, list) else v.to(kernels.device)
        for v in sample(networks, samples=20, num_steps=3)
    )
    assert_each_is_what_it_is_alone(weights, x, labels, desired)


@pytest.mark.parametrize(
    ("which", "reduction", "dtype"),
    [
        ("lr", "sum", torch.float64),
        ("thresholds", "mean", torch.float32),
        ("both", "sum", torch.float32),
        ("both", "mean", torch.float64),
    ],
)
def test_each_has_its_own_rate_and_thresholds(backend, which, reduction, dtype):
    weights, *inputs = sample(3)
    weights = [w.to(backend.device, dtype) for w in weights]
    inputs = (on_device(v, backend.device) for v in inputs)
    lr, thresholds = own_settings(3)
    how = {"lr": 0.05 if which == "thresholds" else lr}
    how |= {"thresholds": THRESHOLDS if which == "lr" else thresholds}
    assert_each_is_what_it_is_alone(weights, *inputs, reduction=reduction, **how)


def test_own_settings_of_rows_of_the_grid(kernels):
    weights, *inputs = sample(9, samples=20, num_steps=3)
    weights = [w.to(kernels.device) for w in weights]
    inputs = (on_device(v, kernels.device) for v in inputs)
    assert_each_is_what_it_is_alone(weights, *inputs, *own_settings(9))


def test_on_several_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with force("cpu"):
            assert_each_is_what_it_is_alone(*sample(5))
    finally:
        torch.set_num_threads(threads)


def test_shapes_also_of_no_network(kernels):
    for networks in (0, 2):
        weights, *inputs = sample(networks)
        weights = [w.to(kernels.device) for w in weights]
        x, labels, desired = (v.to(kernels.device) for v in inputs)
        settings = {"thresholds": THRESHOLDS, "return_hidden": True, "return_state": True}
        result = ops.bp_stdp_network_(weights, x, labels, desired, **settings)
        assert result.spikes.shape == (networks, 6, 3, 3)
        assert [h.shape for h in result.hidden] == [(networks, 6, 3, n) for n in SIZES[1:-1]]
        assert [v.shape for v in result.state] == [(networks, 3, n) for n in SIZES[1:]]


def test_weights_of_any_strides(backend):
    weights, *inputs = sample(3)
    weights, inputs = ([t.to(backend.device) for t in v] for v in (weights, inputs))
    laid = [w.permute(2, 1, 0).clone().permute(2, 1, 0) for w in weights]
    for w in (laid, weights):
        ops.bp_stdp_network_(w, *inputs, thresholds=THRESHOLDS)
    torch.testing.assert_close(laid, weights, rtol=0, atol=0)


WRONG = {
    "weights": (
        {"weights": [torch.zeros(1, 2, 3, 4)]},
        r"weights\[0\] must have shape \[N_post, N_pre\] or \[K, N_post, N_pre\]",
    ),
    "other weights": (
        {"weights": [torch.zeros(3, 4, 9), torch.zeros(2, 3, 4)]},
        r"weights\[1\] must have shape \[3, N, 4\], got \[2, 3, 4\]",
    ),
    "one of weights": (
        {"weights": [torch.zeros(3, 4, 9), torch.zeros(3, 4)]},
        r"weights\[1\] must have shape \[3, N, 4\], got \[3, 4\]",
    ),
    "spikes": ({"x": torch.zeros(2, 6, 3, 9)}, r"x must have shape \[3, T, P, 9\]"),
    "hz": ({"x": rates(2)}, r"x.hz must have shape \[P, 9\] or \[3, P, 9\], got \[2, 3, 9\]"),
    "labels": ({"labels": torch.zeros(2, 3).long()}, r"labels must have shape \[3, 3\]"),
    "label": ({"labels": torch.zeros(4).long()}, r"labels must have shape \[3\], got \[4\]"),
    "desired": ({"desired": torch.zeros(2, 6, 3).bool()}, r"desired must have shape \[3, 6, 3\]"),
    "lr": ({"lr": [0.1, 0.2]}, "lr must be a number or 3, one a network, got 2"),
    "negative lr": ({"lr": [0.1, 0.2, -1]}, r"lr\[2\] must be at least 0, got -1"),
    "thresholds": ({"thresholds": [0.9, [1.0], 0.9]}, r"thresholds\[1\] must be a number or 3, one a network, got 1"),
    "thresholds of float32 zero": (
        {"thresholds": [0.9, 0.9, (0.9, 1e-46, 0.9)]},
        r"thresholds\[2\]\[1\] must lie within the range of float32, got 1e-46",
    ),
    "state": (
        {"labels": None, "desired": None, "state": [torch.zeros(3, 40)] * 3},
        r"state\[0\] must have shape \[3, 3, 40\], got \[3, 40\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_what_each_network_is_to_be_given(case):
    changes, message = WRONG[case]
    weights, x, labels, desired = sample(3)
    arguments = {"weights": weights, "x": x, "labels": labels, "desired": desired, **changes}
    arguments = {"thresholds": THRESHOLDS[: len(arguments["weights"])], **arguments}
    with pytest.raises(ValueError, match=f"bp_stdp_network_: {message}"):
        ops.bp_stdp_network_(**arguments)


def test_errors_of_settings_of_each_network():
    weights, x, labels, desired = sample(3)
    how = {"x": x, "labels": labels, "desired": desired, "thresholds": THRESHOLDS}
    with pytest.raises(TypeError, match="lr must be a number, got Tensor"):
        ops.bp_stdp_network_(weights, **how, lr=torch.ones(3))
    with pytest.raises(TypeError, match=r"lr\[1\] must be a number, got str"):
        ops.bp_stdp_network_(weights, **how, lr=[0.1, "0.1", 0.1])
    alone = [w[0] for w in weights]
    how |= {"x": x[0], "labels": labels[0], "desired": desired[0]}
    with pytest.raises(TypeError, match="lr must be a number, got list"):
        ops.bp_stdp_network_(alone, **how, lr=[0.1])
    with pytest.raises(TypeError, match=r"thresholds\[2\] must be a number, got tuple"):
        ops.bp_stdp_network_(alone, **how | {"thresholds": [0.9, 0.9, (1.0,)]})


@pytest.mark.parametrize("bad", [0.0, -math.inf, math.nan])
def test_thresholds_that_nobody_looked_at_write_nowhere(bad):
    """The CPU refuses such thresholds; on CUDA, where a check would wait, padding neurons never fire."""
    call = ops.bp_stdp_network_.check(*sample(3), thresholds=THRESHOLDS, return_hidden=True)
    plain = flatten(call._replace(thresholds=DOUBLE.new_full((3, 3), bad)))
    with force("cpu") as cpu, pytest.raises(RuntimeError, match="thresholds must be positive"):
        cpu.ops.bp_stdp_network_(*plain)
    if "cuda_emulation" in PRESENT:
        with force("cuda_emulation") as cuda:
            assert cuda.ops.bp_stdp_network_(*plain)[0].shape == (3, 6, 3, 3)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (r"weights must have shape \[N, I\] or \[K, N, I\]", {"weights": [torch.zeros(9)] * 3}),
        (r"weights must have shape \[3, ", {"weights": sample(3)[0][:2] + sample(2)[0][2:]}),
        (r"labels must have shape \[3, 3\], got \[2, 3\]", {"labels": torch.zeros(2, 3).long()}),
        (r"desired must have shape \[3, 6, 3\], got \[2, 6, 3\]", {"desired": torch.zeros(2, 6, 3).bool()}),
        (r"lr must have shape \[3\], got \[2\]", {"lr": DOUBLE.new_ones(2)}),
        ("lr must be float64, got float32", {"lr": torch.ones(3)}),
        (r"thresholds must have shape \[3, 3\], got \[3, 2\]", {"thresholds": DOUBLE.new_ones(3, 2)}),
        (r"state must have shape \[3, 3, ", {"state": [torch.zeros(3, n) for n in SIZES[1:]]}),
    ],
)
def test_raw_calls_with_wrong_arguments_are_refused(text, changes):
    weights, x, labels, desired = sample(3)
    call = ops.bp_stdp_network_.check(weights, x, labels, desired, thresholds=THRESHOLDS)
    if "state" in changes:
        changes |= {"labels": None, "desired": None}
    for name in (b for b in PRESENT if b != "cuda"):
        with force(name) as on, pytest.raises(RuntimeError, match=f"bp_stdp_network_: .*{text}"):
            on.ops.bp_stdp_network_(*flatten(call._replace(**changes)))
