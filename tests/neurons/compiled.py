"""``torch.compile`` and ``torch.export``: no graph break, no new compilation for a new T, the same numbers."""

import pytest
import torch
from backends import PRESENT
from samples import Sample, assert_equal, assert_gradients_close, over_neurons

needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")


def only_lif(op):
    """Return ``lif`` only, for slow tests of the compiler."""
    return [op] if op.name == "lif" else []


def network(op):
    states = dict.fromkeys(op.states)

    def forward(x, w, decay):
        options = {"decay": decay.sigmoid()} if op.decays else {}
        sequence, *after = op(x=x @ w, **states, **options)
        return sequence.sum(0), *after

    return forward


def inputs(T=6):
    generator = torch.Generator().manual_seed(T)
    x = torch.rand(T, 5, 8, generator=generator)
    w = torch.rand(8, 4, generator=generator).requires_grad_()
    return x, w, torch.zeros(4, requires_grad=True)


def loss(outputs):
    return sum(((k + 1) * out).sum() for k, out in enumerate(outputs))


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_without_graph_break_gives_the_same(op):
    function = network(op)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    args = inputs()
    want, got = function(*args), compiled(*args)
    assert_equal(list(got), [w.detach() for w in want] if not got[0].requires_grad else list(want))
    wrt = [a for a in args if a.requires_grad][: 1 + bool(op.decays)]
    assert_gradients_close(
        dict(zip("xw", torch.autograd.grad(loss(got), wrt), strict=False)),
        dict(zip("xw", torch.autograd.grad(loss(want), wrt), strict=False)),
    )


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
@over_neurons("op", only_lif)
def test_compiled_by_inductor_gives_the_same(op):
    """Inductor checks the strides of the kernels' results.

    It has no kernel of its own to write here: a C++ compiler would take ten seconds for one.
    """

    def function(x, w):
        return op(x=x @ w)

    compiled = torch.compile(function, fullgraph=True)
    x, w, _ = inputs()
    want, got = function(x, w), compiled(x, w)
    assert_equal(list(got), list(want))
    grads = torch.autograd.grad(loss(got), w)
    torch.testing.assert_close(grads, torch.autograd.grad(loss(want), w))


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
@over_neurons("op", only_lif)
def test_new_numbers_of_steps_need_no_new_compilation(op):
    """PyTorch only compiles separately for 0, 1 and more checkpoints (every 32 steps)."""
    from torch._dynamo.testing import CompileCounterWithBackend  # takes seconds to import

    counter = CompileCounterWithBackend("aot_eager")
    function = network(op)
    compiled = torch.compile(function, fullgraph=True, backend=counter, dynamic=True)
    for T in (6, 40, 100, 7, 20, 33, 200, 64, 65):
        args = inputs(T)
        want, got = function(*args), compiled(*args)
        assert_equal(list(got), list(want))
        loss(got).backward()
        if T == 100:
            compilations = counter.frame_count
    assert counter.frame_count == compilations <= 4


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_in_inference_gives_the_same(op):
    compiled = torch.compile(network(op), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        args = inputs()
        assert_equal(list(compiled(*args)), list(network(op)(*args)))


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("learned", [False, True], ids=["", "learned"])
def test_exported_program_gives_the_same_for_any_number_of_steps(op, learned):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(5), requires_grad=learned)

        def forward(self, x):
            return op(x=x * self.scale)[0]

    net, x = Network(), Sample(op, "plain", (6, 5), torch.float32).arguments()["x"]
    steps = torch.export.Dim("T", min=2, max=1000)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: steps},)).module()
    kernels = [n for n in program.graph.nodes if f"{op.kernel}_forward" in str(n.target)]
    assert len(kernels) == 1
    for T in (6, 50):
        x = Sample(op, "plain", (T, 5), torch.float32).arguments()["x"]
        assert_equal(program(x), net(x))
        if learned:
            grads = [torch.autograd.grad((module(x) * x).sum(), module.scale)[0] for module in (program, net)]
            assert_equal(*grads)


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_exported_program_survives_a_file(tmp_path, op):
    class Network(torch.nn.Module):
        def forward(self, x):
            return op(x=x)[0]

    x = torch.rand(6, 5) * 2
    torch.export.save(torch.export.export(Network(), (x,)), tmp_path / f"{op}.pt2")
    loaded = torch.export.load(tmp_path / f"{op}.pt2")
    assert_equal(loaded.module()(x), op(x=x)[0])
