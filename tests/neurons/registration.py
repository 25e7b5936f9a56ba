"""Registration of the kernels in PyTorch: schemas, fakes, vmap, and raw calls with wrong arguments."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from backends import PRESENT
from cases import check_each
from raw_calls import WITH_AUTOGRAD, Recorder, opcheck, wrong
from samples import Sample, assert_equal, cotangents, few, over_neurons, owner, require_grad, rich


def calls(sample, grad=True, device="cpu"):
    """Record the calls of kernels in a forward and backward pass over a sample."""
    with Recorder() as recorder:
        arguments = sample.arguments(device)
        outputs = sample.op(**(require_grad(arguments) if grad else arguments))
        if grad:
            pairs = [(o, g) for o, g in zip(outputs, cotangents(outputs), strict=True) if o is not None]
            torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
    return recorder.calls


def opchecked(op, kernels):
    """Return all samples of the CPU kernels of ``lif``, one of the others, which the same code registers."""
    if kernels.name != "cpu" or op.name != "lif":
        return few(op, torch.float32, rich(op))
    return [
        *few(op, torch.float32, "plain", "all_tensors"),
        *(Sample(op, "plain", shape, torch.float32) for shape in ((0, 3), (3, 0))),
        *(Sample(op, v, (40, 3), torch.bfloat16) for v in ("v_seq",) if v in op.variants),
        *few(op, torch.float64, "return_state"),
    ]


def kernel_names(op):
    return [f"{op.kernel}_{way}" for op in owner(op) for way in ("forward", "backward")]


def test_opcheck_finds_nothing(kernels, op):
    if kernels.device == "cuda":
        pytest.skip("opcheck runs on the CPU here")

    def check(sample):
        found = calls(sample) + calls(sample, grad=False)
        assert {func._schema.name.partition("::")[2] for func, _ in found} == {
            f"{op.kernel}_forward",
            f"{op.kernel}_backward",
        }
        for func, args in found:
            opcheck(func, args)

    samples = opchecked(op, kernels)
    check_each(samples, check)
    if op.name == "lif":
        forward, args = calls(samples[-1])[0]
        args = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
        opcheck(forward, args, WITH_AUTOGRAD)


@over_neurons("name", kernel_names)
def test_schema_neither_mutates_nor_aliases(name):
    schema = getattr(torch.ops.snnfast, name).default._schema
    assert not schema.is_mutable
    assert all(r.alias_info is None for r in schema.returns)
    assert all(r.name for r in schema.returns)


@over_neurons("name", kernel_names)
def test_emulated_kernels_have_the_same_schema(name):
    if "cuda_emulation" not in PRESENT:
        pytest.skip("built without SNNFAST_EMULATION=1")
    cpu = str(getattr(torch.ops.snnfast, name).default._schema)
    assert str(getattr(torch.ops.snnfast_emulated, name).default._schema) == cpu.replace(
        "snnfast::", "snnfast_emulated::"
    )


@over_neurons("sample", lambda op: few(op, torch.float32, "plain", "soft", "v_seq", "v_rest"))
def test_vmap_over_the_input_equals_a_loop(kernels, sample):
    arguments = sample.arguments(kernels.device)
    single = arguments.pop("x")
    batch = [single + k for k in range(3)]

    def one(x):
        return sample.op(x=x, **arguments)

    want = [torch.stack(ts) for ts in zip(*map(one, batch), strict=True)]

    def check(dim):
        assert_equal(list(torch.vmap(one, in_dims=dim)(torch.stack(batch, dim))), want)

    check_each([0, 1, 2, -1], check)


def test_vmap_over_states_and_parameters_equals_a_loop(kernels, op):
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(20, 2, 4, generator=generator) * 2).to(kernels.device)
    for name in (*op.states, *op.decays, *op.params):
        batch = torch.rand(3, 2, 4, generator=generator).to(kernels.device)

        def one(value, name=name):
            return op(x=x, **{name: value})

        want = [torch.stack(ts) for ts in zip(*map(one, batch), strict=True)]
        assert_equal(list(torch.vmap(one)(batch)), want, name)
        last = batch.movedim(0, -1).contiguous()
        assert_equal(list(torch.vmap(one, in_dims=-1)(last)), want, name)
        if name not in op.states:  # a parameter of fewer dimensions
            row = batch[:, 0]
            want = [torch.stack(ts) for ts in zip(*map(one, row), strict=True)]
            assert_equal(list(torch.vmap(one)(row)), want, name)


def test_vmap_in_vmap_equals_loops(kernels, op):
    x = torch.rand(2, 3, 5, 4, device=kernels.device) * 2
    got = torch.vmap(torch.vmap(lambda x: op(x=x)[0]))(x)
    want = torch.stack([torch.stack([op(x=b)[0] for b in a]) for a in x])
    assert_equal(got, want)


def test_gradient_by_functorch_is_refused_clearly(kernels, op):
    x = torch.rand(5, 4, device=kernels.device)
    for transform in (torch.func.grad, torch.func.jacrev):
        with pytest.raises(RuntimeError, match=rf"^{op.name}: torch.func.grad, vjp and jacrev"):
            transform(lambda x: op(x=x)[0].sum())(x)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_forward_mode_gradient_is_refused_by_name(kernels, op, requires_grad):
    """A kernel would drop the tangent, and the derivative would silently be zero."""
    message = rf"^{op.name}: forward-mode differentiation is not supported"
    x = torch.rand(5, 4, device=kernels.device, requires_grad=requires_grad)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match=message):
            op(x=dual)
    with pytest.raises(RuntimeError, match=message):
        torch.func.jvp(lambda x: op(x=x)[0], (x,), (x,))
    state = torch.rand(4, device=kernels.device)
    with pytest.raises(RuntimeError, match=message):
        torch.func.jvp(lambda v: op(x=x, v=v)[0], (state,), (state,))


def test_autocast_leaves_state_in_float32(backend, op):
    x = torch.rand(5, 4, device=backend.device) * 2
    want = op(x=x)
    with torch.autocast(backend.device, torch.bfloat16):
        assert_equal(list(op(x=x)), list(want))
        linear = torch.nn.Linear(4, 4, device=backend.device)
        first, *states = op(x=linear(x))
    assert first.dtype == (torch.bfloat16 if op.fires else torch.float32)
    assert all(state.dtype == torch.float32 for state in states)


# ---- raw calls of torch.ops.snnfast, without the checks in Python, raise an error and never crash


def took(name, label, _):
    pytest.fail(f"took {name} {label}")


@over_neurons("op", owner)
def test_raw_call_with_any_wrong_tensor_is_refused(kernels, op):
    if kernels.device == "cuda":
        pytest.skip("the emulation shows the same")
    refused = 0
    for func, args in calls(Sample(op, "all_tensors", (40, 2, 3, 4), torch.float32)):
        names = [a.name for a in func._schema.arguments]
        for k, arg in enumerate(args):
            if not isinstance(arg, torch.Tensor):
                continue
            for label, bad in wrong(arg):
                if names[k] == "x" and label == "narrower" and "forward" in str(func):
                    continue  # x may be narrower than its state
                changed = [*args[:k], bad, *args[k + 1 :]]
                refused += 1
                with pytest.raises(RuntimeError, match=rf"\b{op.kernel}: "):
                    took(names[k], label, func(*changed))
    assert refused > 50


@over_neurons("op", owner)
def test_raw_call_with_any_wrong_number_is_refused(kernels, op):
    sample = Sample(op, "plain", (40, 3), torch.float32)
    (_, _), (backward, args) = calls(sample, device=kernels.device)
    for name, values in {"surrogate": (-1, 7, 2**40), "checkpoint_every": (0, -1)}.items():
        for value in values:
            with pytest.raises(RuntimeError, match=rf"(surrogate must|checkpoint_every must).*, got {value}$"):
                backward(*replaced(backward, args, **{name: value}))


@over_neurons("op", owner)
@pytest.mark.parametrize("every", [0, 1, 3, 32, 40, 1000])
def test_distance_of_checkpoints_changes_no_output(kernels, op, every):
    if kernels.device == "cuda":
        pytest.skip("the emulation shows the same")
    (forward, args), (backward, backward_args) = calls(Sample(op, "plain", (40, 3), torch.float32))
    *want, _ = forward(*args)
    *got, checkpoints = forward(*replaced(forward, args, checkpoint_every=every))
    assert_equal(got, want)
    if every and kernels.name == "cpu":
        options = {"checkpoint_every": every, "checkpoints": checkpoints}
        again = backward(*replaced(backward, backward_args, **options))
        assert_equal(again, backward(*backward_args))


def replaced(func, args, **changes):
    """Return the arguments of a kernel with some changed, by name."""
    names = [a.name for a in func._schema.arguments]
    assert changes.keys() <= set(names)
    return [changes.get(name, arg) for name, arg in zip(names, args, strict=True)]
