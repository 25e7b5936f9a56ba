"""``recurrent``: every neuron that fires, with its spikes coming back to it."""

import itertools
from pathlib import Path

import pytest
import samples
import torch
from backends import PRESENT, force
from cases import check_each
from interpreter import python
from samples import (
    PRIMITIVES,
    Sample,
    assert_equal,
    assert_gradients_close,
    cotangents,
    gradients,
    require_grad,
)

from snnfast import ops, reference
from snnfast.calls import neuron as calls
from snnfast.calls.call import flatten, schema
from snnfast.calls.recurrent import firing, recurrent_of
from snnfast.check import state_dtype

OPS = [op for op in samples.neurons() if op.fires]
KERNELS = [op for op in OPS if op.name == op.kernel]
LIF = next(op for op in OPS if op.name == "lif")
needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
each_op = pytest.mark.parametrize("op", OPS, ids=str)
each_kernel = pytest.mark.parametrize("op", KERNELS, ids=str)
DELAYS = (None, "whole", "real")


class Recurrent:
    """A neuron with recurrent connections, as a function of its arguments."""

    def __init__(self, op, run=ops.recurrent):
        self.op, self.run = op, run

    def __call__(self, **arguments):
        return self.run(neuron=self.op.name, **arguments)


def case(
    op, variant="plain", shape=(35, 3, 7), dtype=torch.float64, past=0, delay=None, device="cpu"
):
    """The arguments of a neuron, and weights, spikes before the first step, and delays."""
    sample = Sample(op, variant if variant in op.variants else "plain", shape, dtype)
    generator, wide, H = sample.generator(), state_dtype(dtype), shape[-1]
    arguments = sample.arguments(device)
    weight = torch.randn(H, H, generator=generator, dtype=torch.float64) / max(H, 1) ** 0.5
    arguments["weight"] = weight.to(wide).to(device)
    if past:
        spikes = torch.rand(past, *shape[1:], generator=generator) < 0.3
        arguments["past"] = spikes.to(dtype).to(device)
    if delay:
        d = torch.rand(H, generator=generator, dtype=torch.float64) * 6 - 1
        arguments["delay"] = (d.floor() if delay == "whole" else d).to(wide).to(device)
    return arguments


def agree(op, arguments, exact=True):
    """Outputs bit for bit, gradients to rounding, of the kernels and the reference."""
    kernel, plain = Recurrent(op), Recurrent(op, reference.recurrent)
    if exact:
        assert_equal(list(kernel(**arguments)), list(plain(**arguments)))
    assert_gradients_close(gradients(kernel, arguments), gradients(plain, arguments))


# ---- the kernels against the equations


@each_op
def test_every_variant_equals_the_reference(kernels, op):
    for variant in op.variants:
        agree(op, case(op, variant, (9, 2, 3), device=kernels.device), kernels.exact)


# The sizes and delays are the scan's concern, which is one for all neurons: all of them are for ``lif``.
SHAPES = ((0, 2, 3), (3, 0, 4), (3, 2, 0), (1, 1), (5, 2), (33, 5, 17), (5, 2, 3, 4), (2, 1, 300))


@pytest.mark.parametrize(
    ("op", "dtype"),
    [*((op, torch.float64) for op in KERNELS), *((LIF, dtype) for dtype in samples.DTYPES[1:])],
    ids=str,
)
def test_shapes_and_dtypes_equal_the_reference(kernels, op, dtype):
    def check(shape):
        agree(op, case(op, "plain", shape, dtype, device=kernels.device), kernels.exact)

    check_each(SHAPES if op is LIF else SHAPES[1::2], check)


@each_kernel
def test_delays_and_spikes_of_before_equal_the_reference(kernels, op):
    def check(given):
        past, delay = given
        for T, dtype in ((1, torch.float64), (3, torch.bfloat16), (40, torch.float64)):
            arguments = case(op, "soft", (T, 5, 4), dtype, past, delay, kernels.device)
            agree(op, arguments, kernels.exact)

    pasts = (0, 1, 4)
    check_each(itertools.product(pasts, DELAYS) if op is LIF else zip(pasts, DELAYS), check)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("T", "longest"), [(150, 40.0), (101, 3.0), (70, 400.0)])
def test_delays_longer_and_shorter_than_a_segment_equal_the_reference(kernels, T, longest, dtype):
    """What arrives in the backward pass is found for as many steps at a time as the longest delay has."""
    arguments = case(LIF, shape=(T, 5, 4), dtype=dtype, past=3, delay="real", device=kernels.device)
    arguments["delay"] *= longest / arguments["delay"].abs().max()
    agree(LIF, arguments, kernels.exact)


@pytest.mark.parametrize("H", [512, 513, 600])
def test_many_neurons_equal_the_reference(kernels, H):
    """Above the neurons that a CUDA block has threads for, and above two blocks of 256."""
    agree(LIF, case(LIF, "plain", (2, 1, H), device=kernels.device), kernels.exact)


@pytest.mark.parametrize("delay", [-1.0, 0.0, 2.5, 30.0, 1e30, float("inf"), float("nan")])
def test_any_delay_equals_the_reference(kernels, delay):
    """Also one beyond the steps that there are, whose spikes never arrive."""
    arguments = case(LIF, past=2, device=kernels.device)
    arguments["delay"] = torch.full((7,), delay, dtype=torch.float64, device=kernels.device)
    agree(LIF, arguments, kernels.exact)


@pytest.mark.parametrize("past", [[0.5, -2.0], [3.0, 1.0]])
def test_spikes_of_before_may_be_any_numbers(kernels, past):
    arguments = case(LIF, shape=(5, 1, 2), past=1, delay="real", device=kernels.device)
    arguments["past"] = torch.tensor([[past]], dtype=torch.float64, device=kernels.device)
    agree(LIF, arguments, kernels.exact)


def test_layouts_change_nothing(kernels):
    arguments = case(LIF, "decay_each", past=3, delay="real", device=kernels.device)
    want = Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)
    turned = {
        k: a.mT.contiguous().mT if isinstance(a, torch.Tensor) and a.dim() > 1 else a
        for k, a in arguments.items()
    }
    assert_equal(Recurrent(LIF)(**turned), want[0])
    assert_equal(gradients(Recurrent(LIF), turned), want[1])
    row = arguments | {"x": arguments["x"][:, :1, :1].expand(35, 3, 7)}
    dense = row | {"x": row["x"].contiguous()}
    assert_equal(Recurrent(LIF)(**row), Recurrent(LIF)(**dense))


# ---- what must hold


@each_op
def test_without_weights_it_is_the_neuron(kernels, op):
    arguments = case(op, "v_seq", device=kernels.device)
    arguments["weight"] = torch.zeros_like(arguments["weight"])
    plain = {k: a for k, a in arguments.items() if k != "weight"}
    assert_equal(Recurrent(op)(**arguments), op(**plain))


@each_op
@pytest.mark.parametrize("delay", DELAYS)
def test_time_in_parts_equals_the_whole(kernels, op, delay):
    """States and spikes of a part are those that the next one begins with, gradients included."""
    arguments = case(op, shape=(80, 3, 9), delay=delay, device=kernels.device)
    arguments = require_grad(arguments)
    x = arguments.pop("x")
    spikes, *states = Recurrent(op)(x=x, **arguments)
    parts, past, now = [], None, {k: arguments.pop(k) for k in op.states}
    for part in x.split([1, 32, 40, 7]):
        given = {} if past is None else {"past": past}
        out, *after = Recurrent(op)(x=part, **given, **now, **arguments)
        now = dict(zip(op.states, after, strict=True))
        parts.append(out)
        past = torch.cat(parts)
    assert_equal(torch.cat(parts), spikes)
    assert_equal(list(now.values()), states)
    weights = cotangents((spikes, *states))
    wanted = [x, arguments["weight"], *([arguments["delay"]] if delay else [])]
    whole = torch.autograd.grad((spikes, *states), wanted, weights)
    pieces = torch.autograd.grad((torch.cat(parts), *now.values()), wanted, weights)
    names = ("x", "weight", "delay")
    assert_gradients_close(
        dict(zip(names, pieces, strict=False)), dict(zip(names, whole, strict=False))
    )


@needs_kernels
def test_threads_change_nothing(threads):
    arguments = case(LIF, "all_tensors", (40, 75, 20), torch.float32, 2, "real")
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append((Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)))
    for other in found[1:]:
        assert_equal(other[0], found[0][0])
        assert_equal(other[1], found[0][1])


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="built without SNNFAST_EMULATION=1")
@pytest.mark.parametrize("delay", DELAYS)
def test_emulated_cuda_gives_the_bits_of_the_cpu(delay):
    """The gradient of the weights included, whose terms have one order on both."""
    arguments = case(LIF, "all_tensors", (20, 70, 6), torch.float32, 1, delay)
    found = []
    for name in ("cpu", "cuda_emulation"):
        with force(name):
            found.append((Recurrent(LIF)(**arguments), gradients(Recurrent(LIF), arguments)))
    assert_equal(found[1][0], found[0][0])
    assert_equal(found[1][1], found[0][1])


@pytest.mark.parametrize("P", [0, 3])
def test_its_delay_is_that_of_the_op_delay(backend, P):
    """What arrives is the spikes of the step before, delayed; in numbers whose sums are exact."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(-8, 9, (6, 6), generator=generator).double() / 16
    d = torch.randint(0, 12, (6,), generator=generator).double() / 4
    x = torch.randint(0, 24, (40, 2, 6), generator=generator).double() / 16
    past = (torch.rand(P, 2, 6, generator=generator) < 0.5).double()
    spikes, _ = ops.recurrent(x, weight, past, delay=d, decay=0.5, v_reset=None)
    assert 0.05 < spikes.mean() < 0.9
    before = torch.cat([past, spikes])
    before = torch.cat([torch.zeros(1, 2, 6, dtype=x.dtype), before])[:-1]
    arrived = ops.delay(before, d)[P:]
    again, _ = ops.lif(x + arrived @ weight.T, decay=0.5, v_reset=None)
    assert_equal(again, spikes)


# Two neurons, decay 1/2, threshold 1, hard reset, ds/dh = 1: h = v/2 + x + W s[t-1]
#   h = (1, 1/2), (1/4, 3/2), (9/8, 3/4);  s = (1, 0), (0, 1), (1, 0);  v = (0, 1/2), (1/4, 0), (0, 3/4)
# Backwards: dL/ds = its weight + W^T dL/dh[t+1] - dL/dv h, dL/dh = dL/dv (1 - s) + dL/ds
#   t = 2: dL/dv = (4, 4):              dL/ds = (-1/2, 1);             dL/dh = (-1/2, 5);           W^T dL/dh = 5, -3/2
#   t = 1: dL/dv = (-1/4, 5/2):         dL/ds = (7.0625, -3.25);       dL/dh = (6.8125, -3.25);     (-3.25, 4.21875)
#   t = 0: dL/dv = (3.40625, -1.625):   dL/ds = (-5.65625, 6.03125);   dL/dh = (-5.65625, 4.40625)
#   dL/dW_ij = sum dL/dh_i[t] s_j[t-1]
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_run_worked_by_hand(backend, dtype):
    def tensor(value):
        return torch.tensor(value, dtype=dtype, device=backend.device).requires_grad_()

    x = tensor([[1.0, 0.5], [0.25, 0.25], [0.5, 1.0]])
    weight, past, v = tensor([[0.0, 0.5], [1.0, -0.25]]), tensor([[0.0, 0.0]]), tensor([0.0, 0.0])
    spikes, last = ops.recurrent(
        x, weight, past, v=v, decay=0.5, decay_input=False, surrogate="straight_through"
    )
    assert spikes.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert last.tolist() == [0, 0.75]
    weights = torch.tensor([[1.0], [2.0], [4.0]], dtype=dtype, device=backend.device)
    loss = (spikes * weights).sum() + 4 * last.sum()
    grads = [g.tolist() for g in torch.autograd.grad(loss, (x, weight, past, v))]
    assert grads == [
        [[-5.65625, 4.40625], [6.8125, -3.25], [-0.5, 5.0]],
        [[6.8125, -0.5], [-3.25, 5.0]],
        [[4.40625, -3.9296875]],
        [-2.828125, 2.203125],
    ]


def test_a_delayed_spike_worked_by_hand(backend):
    """One neuron that fires at step 0 alone; a delay of 1.25 brings 3/4 of its spike at step 2 and 1/4 at step 3."""
    x = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0]], device=backend.device)
    weight = torch.tensor([[0.5]], device=backend.device)
    delay = torch.tensor([1.25], device=backend.device).requires_grad_()
    options = {"decay": 0.0, "decay_input": False, "surrogate": "rectangle", "return_v_seq": True}
    _, _, v_seq = ops.recurrent(x, weight, delay=delay, **options)
    assert v_seq[:, 0].tolist() == [0, 0, 0.375, 0.125, 0]
    weights = torch.tensor([[0.0], [0.0], [1.0], [4.0], [0.0]], device=backend.device)
    # dL/dd = sum of the weights times dv/dd = 0.5 (s[t-3] - s[t-2]); no surrogate reaches 1 from there
    assert torch.autograd.grad((v_seq * weights).sum(), delay)[0].tolist() == [1.5]


@pytest.mark.parametrize(("op", "v_reset"), [(LIF, None), *((op, 0.0) for op in KERNELS)], ids=str)
def test_gradient_of_the_soft_recursion_is_that_of_finite_differences(op, v_reset):
    arguments = case(op, "decay_each", (6, 1, 3), past=2, delay="real")
    arguments |= {"v_reset": v_reset, "surrogate": lambda u: PRIMITIVES["atan"](u, 0.8)}
    arguments["x"] *= 0.25  # gentle, where a membrane grows with its square
    names = [k for k, a in arguments.items() if isinstance(a, torch.Tensor)]

    def function(*values):
        given = arguments | dict(zip(names, values, strict=True))
        return reference.recurrent(neuron=op.name, **given)

    inputs = [arguments[k].requires_grad_() for k in names]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-6)


@needs_kernels
def test_what_is_kept_for_the_backward_pass():
    """x, the spikes, the weights and a checkpoint of the state every 32 steps."""
    x = torch.rand(96, 8, 16).requires_grad_()
    weight = torch.rand(16, 16).requires_grad_()
    seen = {}

    def pack(t):
        seen[t.data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        spikes, _ = ops.recurrent(x, weight)
    own = sum(n for p, n in seen.items() if p not in (x.data_ptr(), spikes.data_ptr()))
    assert own == weight.numel() + 2 * x[0].numel()


# ---- as PyTorch sees it


@needs_kernels
@pytest.mark.parametrize("name", sorted(calls.NEURONS))
def test_kernels_take_the_fields_of_the_call(name):
    if name not in firing():
        return
    call = ops.recurrent.check(torch.zeros(2, 3), torch.zeros(3, 3), neuron=name)
    stem = type(call).neuron.__module__.rpartition(".")[2]
    fields = torch._C.parse_schema(f"op({schema(type(call))}) -> ()").arguments
    for way in ("forward", "backward"):
        kernel = getattr(torch.ops.snnfast, f"recurrent_{stem}_{way}").default._schema
        got = [(a.name, str(a.type)) for a in kernel.arguments[: len(fields)]]
        assert got == [(a.name, str(a.type)) for a in fields]
        assert not kernel.is_mutable
    assert len(flatten(call)) == len(fields)
    assert recurrent_of(type(call).neuron) is type(call)


def test_every_neuron_that_fires_is_tested():
    assert sorted(op.name for op in OPS) == firing()


@needs_kernels
@each_kernel
def test_opcheck_finds_nothing(op):
    for past, delay in ((0, None), (2, "real"))[op is not LIF :]:
        arguments = require_grad(case(op, "plain", (9, 2, 3), torch.float32, past, delay))
        call = ops.recurrent.check(neuron=op.name, **arguments)
        forward = getattr(torch.ops.snnfast, f"recurrent_{op.kernel}_forward")
        torch.library.opcheck(forward, (*flatten(call), 4))
        with torch.no_grad():
            spikes, *states, _, checkpoints = forward(*flatten(call), 4)
            more = (checkpoints, 4, True, torch.ones_like(spikes), *(None for _ in states), None)
        backward = getattr(torch.ops.snnfast, f"recurrent_{op.kernel}_backward")
        plain = [a.detach() if isinstance(a, torch.Tensor) else a for a in flatten(call)]
        torch.library.opcheck(backward, (*plain, spikes, *more))


@pytest.mark.parametrize("wanted", ["x", "weight", "past", "delay", "v"])
def test_vmap_over_any_argument_equals_a_loop(kernels, wanted):
    arguments = case(LIF, "v_seq", (12, 2, 4), past=2, delay="real", device=kernels.device)
    generator = torch.Generator().manual_seed(5)
    batch = torch.stack(
        [
            arguments[wanted]
            + torch.rand(arguments[wanted].shape, generator=generator).to(arguments[wanted])
            for _ in range(3)
        ]
    )

    def run(value):
        return Recurrent(LIF)(**arguments | {wanted: value})

    want = [torch.stack(ts) for ts in zip(*map(run, batch), strict=True)]
    assert_equal(list(torch.vmap(run)(batch)), want)
    leaf, single = batch.clone().requires_grad_(), batch.clone().requires_grad_()
    weights = cotangents(tuple(want))
    (got,) = torch.autograd.grad(torch.vmap(run)(leaf), leaf, weights)
    looped = [torch.stack(ts) for ts in zip(*map(run, single.unbind()), strict=True)]
    (want_grad,) = torch.autograd.grad(looped, single, weights)
    assert_gradients_close({"x": got}, {"x": want_grad})


def test_vmap_over_the_backward_pass_gives_weights_a_gradient_each(kernels):
    arguments = require_grad(case(LIF, shape=(9, 2, 4), device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    grads = torch.randn(3, *spikes.shape, dtype=spikes.dtype).to(spikes.device)

    def backward(grad):
        return torch.autograd.grad(spikes, arguments["weight"], grad, retain_graph=True)[0]

    assert_equal(torch.vmap(backward)(grads), torch.stack([backward(g) for g in grads]))
    assert v.requires_grad


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_and_exported_give_the_same():
    def function(x, weight, delay):
        return ops.recurrent(x, weight, neuron="alif", delay=delay, tau=3.0)

    arguments = case(LIF, shape=(9, 2, 4), dtype=torch.float32, delay="real")
    given = [arguments[k].requires_grad_() for k in ("x", "weight", "delay")]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    want, got = function(*given), compiled(*given)
    assert_equal(list(got), [w.detach() for w in want] if not got[0].requires_grad else list(want))
    weights = cotangents(want)
    assert_gradients_close(
        dict(zip("xwd", torch.autograd.grad(got, given, weights), strict=True)),
        dict(zip("xwd", torch.autograd.grad(want, given, weights), strict=True)),
    )

    class Module(torch.nn.Module):
        def forward(self, *given):
            return function(*given)

    exported = torch.export.export(Module(), tuple(given)).module()
    assert_equal(list(exported(*given)), list(function(*given)))


def test_second_derivatives_and_tangents_are_refused(kernels):
    arguments = require_grad(case(LIF, device=kernels.device))
    spikes, _ = Recurrent(LIF)(**arguments)
    (grad,) = torch.autograd.grad(spikes.sum(), arguments["weight"], create_graph=True)
    with pytest.raises(RuntimeError, match="recurrent_lif: a second derivative"):
        grad.sum().backward()
    with torch.autograd.forward_ad.dual_level():
        weight = torch.autograd.forward_ad.make_dual(
            arguments["weight"].detach(), torch.ones_like(arguments["weight"])
        )
        with pytest.raises(RuntimeError, match=r"^recurrent: forward-mode"):
            ops.recurrent(arguments["x"].detach(), weight)


def test_spikes_changed_in_place_before_the_backward_pass_are_noticed(kernels):
    arguments = require_grad(case(LIF, device=kernels.device))
    spikes, v = Recurrent(LIF)(**arguments)
    with torch.no_grad():
        spikes.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        v.sum().backward()


# ---- errors

X, W = torch.zeros(4, 2, 3), torch.zeros(3, 3)
MISTAKES = {
    "x has no neurons": ((torch.zeros(4), W), {}, ValueError, r"x must have shape \[T, ..., H\]"),
    "weight is no tensor": ((X, 3.0), {}, TypeError, "weight must be a tensor, got float"),
    "weight is not square": (
        (X, torch.zeros(3, 2)),
        {},
        ValueError,
        r"weight must have shape \[3, 3\], got \[3, 2\]",
    ),
    "weight is wide": (
        (X, W.double()),
        {},
        TypeError,
        "weight must have dtype torch.float32 for x of dtype torch.float32, got torch.float64",
    ),
    "past lacks time": (
        (X, W, X[0]),
        {},
        ValueError,
        r"past must have shape \[P, 2, 3\], got \[2, 3\]",
    ),
    "past is of another dtype": (
        (X, W, X.bool()),
        {},
        TypeError,
        "past must have the dtype of x, torch.float32, got torch.bool",
    ),
    "delay for each synapse": (
        (X, W),
        {"delay": W},
        ValueError,
        r"delay must have shape \[3\], got \[3, 3\]",
    ),
    "no such neuron": ((X, W), {"neuron": "no such"}, ValueError, "neuron must be one of .*lif"),
    "no name of a neuron": ((X, W), {"neuron": 3}, ValueError, "neuron must be one of .*lif"),
    "a readout": ((X, W), {"neuron": "li"}, ValueError, "neuron must be one of .*, got 'li'"),
    "unknown argument": ((X, W), {"no_such": 3}, TypeError, "no_such"),
    "wrong state": ((X, W), {"v": X}, ValueError, r"v must have shape x.shape\[1:\] = \[2, 3\]"),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(backend, label):
    args, kwargs, error, message = MISTAKES[label]
    with pytest.raises(error, match=message):
        ops.recurrent(*args, **kwargs)


def raw(changes, backward=False):
    call = ops.recurrent.check(X, W, past=X, delay=torch.zeros(3))
    if not backward:
        flat = flatten(call._replace(**changes))
        return torch.ops.snnfast.recurrent_lif_forward(*flat, 0)
    kept = {"spikes": X, "checkpoints": torch.zeros(0, 1, 2, 3), "every": 8} | changes
    more = (kept["spikes"], kept["checkpoints"], kept["every"], True, X, None, None)
    return torch.ops.snnfast.recurrent_lif_backward(*flatten(call), *more)


@needs_kernels
@pytest.mark.parametrize(
    ("changes", "backward"),
    [
        ({"x": torch.zeros(4)}, False),
        ({"weight": torch.zeros(3, 2)}, False),
        ({"weight": W.double()}, False),
        ({"past": X[:, 0]}, False),
        ({"past": X.double()}, False),
        ({"past": torch.zeros(())}, False),
        ({"delay": torch.zeros(2)}, False),
        ({"delay": torch.zeros(3).half()}, False),
        ({"fires": False}, False),
        ({"spikes": X[:2]}, True),
        ({"spikes": X.double()}, True),
        ({"checkpoints": torch.zeros(1, 1, 2, 3)}, True),
        ({"every": 0}, True),
    ],
    ids=str,
)
def test_raw_calls_with_wrong_tensors_are_refused(changes, backward):
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        raw(changes, backward)
    raw({}, backward)


@needs_kernels
def test_bits_are_those_of_every_instruction_set():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "import samples, torch, test_recurrent as t\n"
        "digest = hashlib.sha256()\n"
        "for op in t.KERNELS:\n"
        "    for dtype in (torch.float32, torch.float64):\n"
        "        given = t.case(op, samples.rich(op), (20, 9, 37), dtype, 1, 'real')\n"
        "        outs = t.Recurrent(op)(**given), *t.gradients(t.Recurrent(op), given).values()\n"
        "        for out in (*outs[0], *outs[1:]):\n"
        "            digest.update(out.detach().contiguous().numpy().tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    sets = ("base", "avx2", "avx512")
    found = [python(code, Path(__file__).parent, SNNFAST_CPU_ISA=isa).stdout for isa in sets]
    assert len(found[0]) == 64 + 1
    assert len(set(found)) == 1
