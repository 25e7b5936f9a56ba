"""``sparse_linear``: a linear map through synapses, against the reference and against the matrix."""

import pytest
import torch
from backends import PRESENT, fetched, force, placed
from samples import assert_equal, assert_gradients_close
from spike_linear_cases import F64, inputs, needs_kernels, uniform

from snnfast import connect, ops, reference
from snnfast.check import state_dtype
from snnfast.reference.call import flatten

pytestmark = needs_kernels
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def case(lead, n_pre, n_post, dtype=F64, weights="synapse", outdegree=3, unit=False, part=0.3):
    """Return input, weights and synapses."""
    c = connect.fixed_outdegree(n_pre, n_post, outdegree=outdegree if n_post else 0, seed=n_pre)
    sizes = {"synapse": (len(c),), "neuron": (n_pre,), "number": ()}[weights]
    return inputs((*lead, n_pre), dtype, part, unit), uniform(*sizes, seed=2, dtype=state_dtype(dtype)), c


def gradients(op, x, weight, c, wanted="xw"):
    """Return the gradients of the named arguments."""
    leaves = [placed(t.detach()).requires_grad_(name in wanted) for name, t in zip("xw", (x, weight))]
    y = op(*leaves, c) + 0 * sum(leaf.sum() for leaf in leaves)  # without synapses the reference has no graph
    grad = placed(uniform(*y.shape, seed=5, dtype=y.dtype))
    return dict(zip(wanted, fetched(torch.autograd.grad(y, [t for t in leaves if t.requires_grad], grad))))


def run(x, weight, c):
    return fetched(ops.sparse_linear(placed(x), placed(weight), c))


def agree(x, weight, c):
    assert_equal([run(x, weight, c)], [reference.sparse_linear(x, weight, c)])
    found = gradients(ops.sparse_linear, x, weight, c)
    with force("reference"):
        wanted = gradients(reference.sparse_linear, x, weight, c)
    assert_gradients_close(found, wanted)


# ---- the kernels against the equation


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("rows", [0, 1, 2, 4, 5, 16, 17, 33, 36])
@pytest.mark.parametrize("weights", ["synapse", "neuron", "number"])
def test_tiles_of_every_number_of_rows_equal_the_reference(rows, weights):
    agree(*case((rows,), 20, 17, weights=weights))
    agree(*case((rows,), 20, 17, torch.float32, weights))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("lead", [(), (1,), (3, 2), (2, 0), (0,), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shapes_and_dtypes_equal_the_reference(lead, dtype):
    for n_pre, n_post in ((7, 5), (1, 1), (0, 4), (4, 0), (33, 70), (300, 70)):
        agree(*case(lead, n_pre, n_post, dtype))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("part", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_no_spikes_few_or_all_equal_the_reference(rows, part):
    for outdegree in (11, 60):  # 60: several synapses of a pair
        agree(*case((rows,), 50, 30, outdegree=outdegree, part=part, unit=True))


@pytest.mark.usefixtures("kernels")
def test_targets_of_32_bits_equal_the_matrix():
    n_post = 2**15 + 9
    x, weight, c = case((5,), 40, n_post, outdegree=9)
    assert c.targets.dtype == torch.int32
    torch.testing.assert_close(run(x, weight, c), x @ c.dense(weight).T)
    found = gradients(ops.sparse_linear, x, weight, c)
    with force("reference"):
        wanted = gradients(lambda x, weight, c: x @ c.dense(weight).T, x, weight, c)
    assert_gradients_close(found, wanted)


# ---- what must hold


def test_hand_worked():
    c = connect.from_edges([0, 2, 2, 1], [1, 1, 0, 1], 3, 2)
    weight = c.arrange(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64))
    x = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]], dtype=F64)
    leaves = x.requires_grad_(), weight.requires_grad_()
    y = ops.sparse_linear(*leaves, c)
    assert y.tolist() == [[1.5, 2.0], [0.0, 8.0]]
    grad_x, grad_weight = torch.autograd.grad(y, leaves, torch.tensor([[1.0, 10.0], [100.0, 1000.0]], dtype=F64))
    assert grad_x.tolist() == [[10.0, 40.0, 23.0], [1000.0, 4000.0, 2300.0]]
    assert grad_weight.tolist() == [10.0, 2000.0, 0.5, 5.0]  # synapses 0 -> 1, 1 -> 1, 2 -> 0, 2 -> 1


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("weights", ["synapse", "neuron"])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_one_gradient_alone_is_that_of_both(rows, weights):
    x, weight, c = case((rows,), 20, 17, torch.float32, weights, unit=True)
    both = gradients(ops.sparse_linear, x, weight, c)
    for name in "xw":
        assert_equal(gradients(ops.sparse_linear, x, weight, c, name), {name: both[name]})


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("rows", [1, 2, 20])
def test_inputs_of_0_add_nothing_through_an_infinite_weight(rows):
    c = connect.from_edges([0, 1], [0, 0], 2, 1)
    x = torch.zeros(rows, 2)
    x[0, 1] = 1
    y = run(x, torch.tensor([torch.inf, 0.25]), c)
    assert y.flatten().tolist() == [0.25, *[0.0] * (rows - 1)]
    x[0, 0] = 1
    assert run(x, torch.tensor([torch.inf, 0.25]), c)[0].item() == torch.inf


@pytest.mark.usefixtures("kernels")
def test_rows_alone_or_together_and_any_layout_give_the_same_bits():
    x, weight, c = case((6, 9), 40, 30, torch.float32)
    want = run(x, weight, c)
    assert_equal([torch.stack([run(row, weight, c) for row in x])], [want])
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert_equal([run(strided, torch.stack([weight, weight], 1)[:, 0], c)], [want])


def test_any_number_of_threads_gives_the_same_bits(threads):
    x, weight, c = case((20, 30), 300, 200, torch.float32, outdegree=40)

    def run(count):
        threads(count)
        return [ops.sparse_linear(x, weight, c), *gradients(ops.sparse_linear, x, weight, c).values()]

    want = run(1)
    for count in (2, 3):
        assert_equal(run(count), want)


# ---- registration with PyTorch


def test_opcheck_finds_nothing():
    for weights in ("synapse", "neuron"):
        x, weight, c = case((5, 2), 7, 4, torch.float32, weights)
        call = ops.sparse_linear.check(x.requires_grad_(), weight.requires_grad_(), c)
        torch.library.opcheck(torch.ops.snnfast.sparse_linear_forward, flatten(call))
        plain = [a.detach() if isinstance(a, torch.Tensor) else a for a in flatten(call)]
        for wanted in ((True, True), (True, False), (False, True)):
            arguments = (*plain, torch.ones(5, 2, 4), *wanted)
            torch.library.opcheck(torch.ops.snnfast.sparse_linear_backward, arguments)


@pytest.mark.parametrize("wanted", [0, 1])
def test_vmap_equals_a_loop(wanted):
    *arguments, c = case((5, 2), 7, 4)
    batch = torch.stack([arguments[wanted] * k for k in (1.0, 0.5, 0.25)])

    def run(value):
        changed = [value if k == wanted else argument for k, argument in enumerate(arguments)]
        return ops.sparse_linear(*changed, c)

    assert_equal([torch.vmap(run)(batch)], [torch.stack(list(map(run, batch)))])


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_and_exported_give_the_same():
    x, weight, c = case((5, 2), 7, 4, torch.float32)

    def function(x, weight, c=c):
        return ops.sparse_linear(x, weight, c)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert_equal([compiled(x, weight)], [function(x, weight)])
    want = gradients(function, x, weight, c)
    assert_equal(gradients(lambda x, weight, _: compiled(x, weight), x, weight, c), want)

    class Module(torch.nn.Module):
        def forward(self, x, weight):
            return function(x, weight)

    exported = torch.export.export(Module(), (x, weight)).module()
    assert_equal([exported(x, weight)], [function(x, weight)])


def test_second_derivatives_are_refused():
    x, weight, c = case((3,), 7, 4)
    loss = ops.sparse_linear(x.requires_grad_(), weight, c).square().sum()
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="sparse_linear: "):
        grad.sum().backward()


# ---- errors

X, C = torch.zeros(4, 2, 3), connect.from_edges([0, 1, 1, 2], [1, 0, 3, 0], 3, 4)
W = torch.zeros(4)
MISTAKES = {
    "other neurons": ((X[..., :2], W, C), ValueError, r"x must have shape \[..., 3\] for Connectivity.*\[4, 2, 2\]"),
    "a number as x": ((X[0, 0, 0], W, C), ValueError, r"x must have shape \[..., 3\]"),
    "integers": ((X.int(), W, C), TypeError, "x.* got torch.int32"),
    "no tensor": (([[0.0]], W, C), TypeError, "x must be a tensor"),
    "a matrix": ((X, W, torch.zeros(3, 3)), TypeError, "must be a Connectivity, .* got Tensor"),
    "delays": (
        (X, W, C.with_delay(torch.tensor([1, 2, 1, 4]))),
        ValueError,
        "connectivity must have a delay of 1 step everywhere, got 1 to 4; ops.delay delays x",
    ),
    "weights of a matrix": ((X, torch.zeros(4, 3), C), ValueError, r"\[4\] or \[3\] or \[\], got \[4, 3\]"),
    "weight is wide": ((X, W.double(), C), TypeError, "weight must have dtype torch.float32"),
    "weight is a word": ((X, "w", C), TypeError, "weight must be a number"),
    "another device": ((X.to("meta"), W, C), ValueError, "x must be on the CPU or on CUDA, .* got meta; elsewhere use"),
    "an endless result": ((X[:1].expand(2**55, 2, 3), W, C), ValueError, "y is too large"),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(label):
    args, error, message = MISTAKES[label]
    with pytest.raises(error, match=f"sparse_linear: .*{message}"):
        ops.sparse_linear(*args)


@pytest.mark.parametrize(
    "changes",
    [
        {"x": X[0, 0, 0]},
        {"x": X.int()},
        {"weight": torch.zeros(5)},
        {"weight": W.double()},
        {"targets": C.targets.long()},
        {"targets": C.targets + 1},
        {"targets": C.targets - 4},
        {"targets": C.targets[:-1]},
        {"first": C.first[:-1]},
        {"first": C.first + 1},
        {"first": C.first.flip(0)},
        {"first": C.first.int()},
        {"outputs": 3},
        {"outputs": -1},
    ],
    ids=str,
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    call = ops.sparse_linear.check(X, W, C)
    torch.ops.snnfast.sparse_linear_forward(*flatten(call))
    with pytest.raises(RuntimeError, match="sparse_linear: "):
        torch.ops.snnfast.sparse_linear_forward(*flatten(call._replace(**changes)))


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
def test_wrong_synapses_on_a_gpu_reach_no_other_memory():
    """A kernel checks every index, since the host does not read them; the emulation has the bounds of the CPU."""
    x, weight, grad = torch.ones(2, 3), torch.ones(4), torch.ones(2, 4)
    for first, targets in (
        ([-9, 1, 3, 99], [1, 0, 3, 0]),
        ([3, 2, 1, 0], [1, 0, 3, 0]),
        ([0, 1, 3, 4], [-5, 4, 32_000, 3]),
    ):
        rows = torch.tensor(first), torch.tensor(targets, dtype=torch.int16)
        kernels = torch.ops.snnfast_emulated
        y = kernels.sparse_linear_forward(x, weight, *rows, 4)
        assert_equal(y[0], y[1])
        assert y.sum() <= 2 * 4
        grad_x, _ = kernels.sparse_linear_backward(x, weight, *rows, 4, grad, True, True)
        assert grad_x.sum() <= 2 * 4


def test_raw_gradients_of_another_shape_are_refused():
    flat = flatten(ops.sparse_linear.check(X, W, C))
    torch.ops.snnfast.sparse_linear_backward(*flat, torch.zeros(4, 2, 4), True, True)
    for grad in (torch.zeros(4, 2, 3), torch.zeros(4, 2, 4, dtype=F64)):
        with pytest.raises(RuntimeError, match="sparse_linear: grad_y"):
            torch.ops.snnfast.sparse_linear_backward(*flat, grad, True, True)
