"""Refractory periods, several spikes a step and ``strict`` of ``lif``, ``iaf``, ``cuba``, ``alif`` and ``adlif``.

Outputs and gradients against the reference are among the variants of each neuron (``variants.REFRACTORY``).
"""

import math

import pytest
import samples
import torch
from backends import PRESENT
from raw_calls import REGISTERED, WITH_AUTOGRAD, opcheck
from samples import Sample, assert_equal, gradients

from snnfast import ops, reference
from snnfast.reference.call import flatten, schema
from snnfast.reference.neuron_arguments import refractory_of, result_of

OPS = [op for op in samples.neurons() if op.accepts("refractory")]
KERNELS = [op for op in OPS if op.name == op.kernel]
LIF = next(op for op in OPS if op.name == "lif")
STRICT = [op for op in samples.neurons() if op.fires]
each_op = pytest.mark.parametrize("op", OPS, ids=str)
each_kernel = pytest.mark.parametrize("op", KERNELS, ids=str)
needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")

# Decay 1/2, threshold 1, reset to 0, one refractory step, straight through. The losses weigh the spikes by 1, 2, 4 and
# the last membrane by 4.
# h = 1.5 (fires), 0 (refractory, for any input), 0.75;  v = 0, 0, 0.75
#   dL/ds = 4 + 4 (0 - 0.75) = 1;  none;  1 + 2.5 (0 - 1.5) = -2.75
#   dL/dh = 4 + 1 = 5;  5/2, all of it to the membrane before and none to x;  -2.75
#   dL/ddecay = -2.75 * 0.5;  dL/dthreshold = -(1 - 2.75)
SILENT = {
    "inputs": {"x": [1.25, 9.0, 0.75], "v": 0.5, "decay": 0.5, "v_threshold": 1.0},
    "options": {"refractory": 1},
    "outputs": [[1, 0, 0], 0.75, 0],
    "gradients": {"x": [-2.75, 0.0, 5.0], "v": -1.375, "decay": -1.375, "v_threshold": 1.75},
}
# At most two spikes a step, soft reset, no gradient through it: h = 2.75 (nearest to 3, so 2 thresholds), 0.75, 1.625
# (nearest to 2, below it: 1);  s = 2, 0, 1;  v = 0.75, 0.75, 0.625
#   dL/dh = 4 + 4 = 8;  2 + 8/2 = 6;  1 + 6/2 = 4;  dL/ddecay = 8 * 0.75 + 6 * 0.75 + 4 * 0.5
#   dL/dthreshold = -sum k dL/ds - sum s dL/dv = -(2 * 4 + 1 * 2 + 2 * 1) - (1 * 4 + 0 * 4 + 2 * 3)
SEVERAL = {
    "inputs": {"x": [2.5, 0.375, 1.25], "v": 0.5, "decay": 0.5, "v_threshold": 1.0},
    "options": {"max_spikes": 2, "v_reset": None, "detach_reset": True},
    "outputs": [[2, 0, 1], 0.625],
    "gradients": {"x": [4.0, 6.0, 8.0], "v": 2.0, "decay": 12.5, "v_threshold": -22.0},
}
# At the threshold a strict neuron does not fire: h = 1, 1.5 (fires), 0.25;  v = 1, 0, 0.25
#   dL/ds = 4 + 4 (0 - 0.25) = 3;  2 + 3.5 (0 - 1.5) = -3.25;  1 - 1.625 (0 - 1) = 2.625
#   dL/dh = 4 + 3 = 7;  -3.25;  -3.25/2 + 2.625 = 1
STRICTLY = {
    "inputs": {"x": [0.75, 1.0, 0.25], "v": 0.5, "decay": 0.5, "v_threshold": 1.0},
    "options": {"strict": True},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {
        "x": [1.0, -3.25, 7.0],
        "v": 0.5,
        "decay": 1.0 * 0.5 - 3.25 * 1.0,
        "v_threshold": -(3.0 - 3.25 + 2.625),
    },
}
WORKED = {"silent": SILENT, "several": SEVERAL, "strict": STRICTLY}


@pytest.mark.parametrize("run", WORKED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_outputs_and_gradients_are_those_worked_by_hand(backend, run, dtype):
    case = WORKED[run]

    def tensor(value):
        return torch.tensor(value, dtype=dtype, device=backend.device)

    inputs = {k: tensor(v).requires_grad_() for k, v in case["inputs"].items()}
    options = case["options"] | {"decay_input": False, "surrogate": "straight_through"}
    outputs = ops.lif(**inputs, **options)
    assert [out.tolist() for out in outputs] == case["outputs"]
    loss = (tensor([1.0, 2.0, 4.0]) * outputs[0]).sum() + 4 * outputs[1]
    grads = torch.autograd.grad(loss, list(inputs.values()))
    assert {k: g.tolist() for k, g in zip(inputs, grads, strict=True)} == case["gradients"]


def test_other_states_go_on_while_a_neuron_is_silent(backend):
    """The current of ``cuba`` and the adaptations of ``alif`` and ``adlif`` continue; worked by hand."""

    def column(*values):
        return torch.tensor(values, dtype=torch.float64, device=backend.device)[:, None]

    x, options = column(2.0, 8.0, 0.0), {"decay": 0.5, "decay_input": False, "refractory": 1}
    s, v, i, r = ops.cuba(x, decay_syn=0.5, **options)
    # i = 2, 9, 4.5; h = 2 (fires), 0 (refractory), 4.5 (fires)
    assert (s.flatten().tolist(), v.item(), i.item(), r.item()) == ([1, 0, 1], 0.0, 4.5, 1.0)
    s, v, a, r = ops.alif(x, decay_adapt=0.5, beta=1.0, **options)
    # a = 1, 1/2, 1/4; h = 2 (fires), 0 (refractory), 0
    assert (s.flatten().tolist(), v.item(), a.item(), r.item()) == ([1, 0, 0], 0.0, 0.25, 0.0)
    s, v, w, r = ops.adlif(x, form="bittar2022", decay_w=0.5, a=1.0, b=1.0, **options)
    # h = 2 (fires), 0 (refractory), -1.5; w = 2 + 1, 3/2 + 0, 3/4 - 1.5
    assert (s.flatten().tolist(), v.item(), w.item(), r.item()) == ([1, 0, 0], -1.5, -0.75, 0.0)


@each_op
@pytest.mark.parametrize("n", [1, 3])
def test_after_a_spike_there_are_so_many_steps_without(backend, op, n):
    x = torch.full((4 * n + 5, 2), 50.0, device=backend.device)
    # small: the adaptation must not keep the neuron from firing
    gentle = {"a": 0.0, "b": 0.0} if op.name == "adlif" else {}
    spikes, *_, r = op(x=x, refractory=n, **gentle)
    want = [1.0 if t % (n + 1) == 0 else 0.0 for t in range(len(x))]
    assert spikes.T.tolist() == [want, want]
    assert r.tolist() == [n - (len(x) - 1) % (n + 1)] * 2


def test_spikes_are_as_many_as_there_are_whole_thresholds(backend):
    h = torch.tensor([-3.0, -0.1, 0.0, 0.4, 0.5, 0.9, 1.0, 1.4, 1.5, 2.0, 7.3], device=backend.device)
    for most, strict in ((None, False), (3, False), (3, True), (2**20, True)):
        options = {"decay": 0.0, "decay_input": False, "v_reset": None, "v_threshold": 0.5}
        spikes, v = ops.lif(h[None], max_spikes=most, strict=strict, **options)
        whole = [math.ceil(x / 0.5) - 1 if strict else math.floor(x / 0.5) for x in h.double().tolist()]
        want = [min(max(k, 0), most or math.inf) for k in whole]
        assert spikes[0].tolist() == want
        assert_equal(v, h - 0.5 * spikes[0])


@each_op
def test_a_step_at_a_time_equals_the_whole(kernels, op):
    for variant in ("refractory", "several_refractory"):
        arguments = Sample(op, variant, (40, 3, 5), torch.float32).arguments(kernels.device)
        arguments["r"] = torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0], device=kernels.device).expand(3, 5)
        whole = op(**arguments)
        x, state, spikes = arguments.pop("x"), {}, []
        for t in range(len(x)):
            s, *states = op(x=x[t : t + 1], **{**arguments, **state})
            state = dict(zip((*op.states, "r"), states, strict=False))
            spikes.append(s)
        assert_equal(torch.cat(spikes), whole[0])
        assert_equal(tuple(state.values()), whole[1 : 2 + len(op.states)])


def test_the_count_has_no_gradient(kernels):
    arguments = Sample(LIF, "refractory", (20, 4), torch.float64).arguments(kernels.device)
    arguments["r"] = torch.tensor([0.0, 1.0, 2.0, 9.0], device=kernels.device).double()
    found, want = gradients(ops.lif, arguments), gradients(reference.lif, arguments)
    assert found["r"] is None or not found["r"].any()
    assert not found["x"][:9, 3].any()
    torch.testing.assert_close(found["x"], want["x"], rtol=0, atol=1e-12)
    count = torch.ones(4, device=kernels.device, requires_grad=True)
    # No steps: the same count.
    _, _, remaining = ops.lif(torch.zeros(0, 4, device=kernels.device), refractory=2, r=count)
    assert remaining.tolist() == [1.0] * 4
    assert not remaining.requires_grad or torch.autograd.grad(remaining.sum(), count, allow_unused=True) == (None,)


@each_op
def test_neurons_that_are_never_silent_take_the_plain_kernels(op):
    """They equal, bit for bit, neurons that may fire several times but never do."""
    arguments = Sample(op, "soft", (30, 40), torch.float32).arguments()
    arguments["x"] *= 0.25
    check = getattr(ops, op.name).check
    plain = check(**arguments)
    assert type(check(**arguments, refractory=0, max_spikes=1, r=None)) is type(plain)
    other = check(**arguments, max_spikes=2)
    assert type(other) is refractory_of(type(plain))
    several = op(**arguments, max_spikes=2)
    calm = (several[0] < 2).all(0)
    assert calm.any()
    for got, want in zip(several, op(**arguments), strict=True):
        assert_equal(got[..., calm], want[..., calm])


@pytest.mark.parametrize("op", STRICT, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_strict_neuron_fires_above_its_threshold_and_not_at_it(backend, op, dtype):
    """This holds for every neuron; a soft reset leaves the part of the membrane above the threshold."""
    at = torch.tensor([[0.7]], dtype=dtype, device=backend.device)
    above = torch.nextafter(at, torch.full_like(at, math.inf))
    # the membrane is the input
    still = {"decay": 1.0} if op.runs_away else {"decay": 0.0}
    still = (still if op.decays else {}) | ({"decay_input": False} if op.decays else {})
    extra = {"decay_syn": 0.0} if op.name == "cuba" else {}
    for x, strict, spike in ((at, False, 1), (at, True, 0), (above, True, 1)):
        s, v, *_ = op(x=x, v_threshold=at[0], v_reset=None, strict=strict, **still, **extra)
        assert s.item() == spike
        assert v.item() == (x - at if spike else x).item()


@pytest.mark.parametrize("op", STRICT, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("strict", [False, True])
def test_where_a_neuron_fires_is_that_of_the_reference_at_any_threshold(kernels, op, dtype, strict):
    """Kernels compare the membrane with the smallest one that fires, the reference compares its margin with 0."""
    far, tiny, eps = math.inf, torch.finfo(dtype).tiny, torch.finfo(dtype).eps
    # up to tiny / eps the neighbours of a number are closer to it than the smallest margin
    sizes = [0, tiny * eps, tiny, 3 * tiny, tiny / eps / 4, tiny / eps / 2, tiny / eps, 2 * tiny / eps, 0.7, 1, far]
    sizes += [torch.finfo(dtype).max, tiny / eps / 2 * (1 - eps / 2), math.nan]
    at = torch.tensor([*sizes, *(-s for s in sizes)], dtype=dtype)
    below, above = (torch.nextafter(at, torch.full_like(at, way)) for way in (-far, far))
    x = torch.stack([at, below, above, at + tiny, at - tiny, at + 2 * tiny])
    x = torch.cat([x, torch.nextafter(x, torch.full_like(x, far)), torch.nextafter(x, torch.full_like(x, -far))])
    still = {"decay": 1.0} if op.runs_away else {"decay": 0.0}
    still = (still if op.decays else {}) | ({"decay_input": False} if op.decays else {})
    extra = {"decay_syn": 0.0} if op.name == "cuba" else {}
    # each is the first step of a separate neuron
    arguments = {"x": x[None], "v_threshold": at, "v_reset": -2.0, "strict": strict, **still, **extra}
    want = op.reference(**arguments)[0]
    tensors = {"x": x[None].to(kernels.device), "v_threshold": at.to(kernels.device)}
    assert_equal(op(**arguments | tensors)[0].cpu(), want)
    for k, threshold in enumerate(at.tolist()):
        if abs(threshold) < 1e38:  # also as a Python number
            single = {"x": tensors["x"][..., k], "v_threshold": threshold}
            assert_equal(op(**arguments | single)[0].cpu(), want[..., k])


# ---- registration with PyTorch


@needs_kernels
@each_kernel
@pytest.mark.parametrize("recurrent", [False, True])
def test_fields_of_the_call_are_the_arguments_of_the_kernel(op, recurrent):
    from snnfast.reference.recurrent import recurrent_of

    call = refractory_of(type(getattr(ops, op.name).check(torch.zeros(1))))
    call = recurrent_of(call) if recurrent else call
    stem = f"{'recurrent_' if recurrent else ''}refractory_{op.kernel}"
    want = torch._C.parse_schema(f"op({schema(call)}) -> ()").arguments
    for end in ("_forward", "_backward"):
        found = getattr(torch.ops.snnfast, stem + end).default._schema.arguments
        assert [(a.name, str(a.type)) for a in found[: len(want)]] == [(a.name, str(a.type)) for a in want]


@each_kernel
def test_opcheck_and_vmap(kernels, op):
    arguments = Sample(op, "several_refractory", (20, 3), torch.float64).arguments(kernels.device)
    call = getattr(ops, op.name).check(**arguments)
    flat = flatten(call)
    kernel = getattr(kernels.ops, f"refractory_{op.kernel}_forward")
    x = flat[0].clone().requires_grad_()
    opcheck(kernel.default, (x, *flat[1:], 7), WITH_AUTOGRAD if op is LIF else REGISTERED)
    assert_equal(result_of(call, kernel(*flat, 7)[:-1]), op(**arguments))
    batch = torch.stack([arguments["x"], arguments["x"].flip(0)])
    rest = {k: a for k, a in arguments.items() if k != "x"}
    mapped = torch.vmap(lambda x: op(x=x, **rest))(batch)
    assert_equal([out[1] for out in mapped], op(x=batch[1], **rest))


@needs_kernels
def test_a_raw_call_with_wrong_states_is_refused():
    call = ops.lif.check(torch.zeros(3, 4), refractory=1, r=torch.zeros(4))
    kernel = torch.ops.snnfast.refractory_lif_forward
    assert len(kernel(*flatten(call), 0)) == 5
    for wrong in (torch.zeros(3), torch.zeros(4, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="refractory_lif: r must"):
            kernel(*flatten(call._replace(r=wrong)), 0)


# ---- errors


@each_op
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"refractory": -1}, "refractory must be at least 0, got -1"),
        ({"refractory": 1.5}, "refractory must be an integer, got float"),
        ({"refractory": True}, "refractory must be an integer, got bool"),
        ({"refractory": 2**24}, r"refractory must be fewer than 2\*\*24 steps, got 16777216"),
        ({"r": torch.zeros(3)}, "r needs a refractory period, got refractory=0"),
        ({"refractory": 1, "r": torch.zeros(2)}, "r must have shape"),
        ({"max_spikes": 0, "v_reset": None}, "max_spikes must be at least 1, got 0"),
        ({"max_spikes": 2.0, "v_reset": None}, "max_spikes must be an integer, got float"),
        ({"max_spikes": 2}, "max_spikes above 1 needs a soft reset, v_reset=None"),
        (
            {"max_spikes": None, "v_reset": None, "v_threshold": -1.0},
            "max_spikes above 1 needs v_threshold above 0, got -1.0",
        ),
    ],
    ids=lambda x: "" if isinstance(x, str) else "+".join(x),
)
def test_errors_name_op_and_argument(backend, op, wrong, message):
    inputs = {k: v.to(backend.device) if hasattr(v, "to") else v for k, v in wrong.items()}
    with pytest.raises((TypeError, ValueError), match=f"^{op.name}: {message}"):
        op(x=torch.zeros(2, 3, device=backend.device), **inputs)
