"""Equal gradients in all ways: eager, mapped, exported, traced, compiled, or from the raw kernels."""

import pytest
import torch
from backends import PRESENT
from samples import Sample, assert_equal, assert_gradients_close, cotangents, learned, over_neurons, tensors

from snnfast import ops
from snnfast.reference.call import flatten
from snnfast.reference.neuron_arguments import result_of

needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
EVERY = (0, 7, 32, 1000)  # steps between checkpoints of a raw call; 0 for none


class Function(torch.nn.Module):
    """A neuron as a function of its tensor arguments :attr:`values`."""

    def __init__(self, op, variant, shape=(40, 2, 3, 2)):
        super().__init__()
        self.op = op
        self.arguments = Sample(op, variant, shape, torch.float64).arguments()
        self.names = list(tensors(self.arguments))

    @property
    def values(self):
        return [self.arguments[name].clone().requires_grad_() for name in self.names]

    def with_tensors(self, values):
        return {**self.arguments, **dict(zip(self.names, values, strict=True))}

    def forward(self, *values):
        return self.op(**self.with_tensors(values))

    def raw(self, *values, every):
        call = getattr(ops, self.op.name).check(**self.with_tensors(values))
        kernel = getattr(torch.ops.snnfast, f"{self.op.kernel}_forward")
        return result_of(call, kernel(*flatten(call), every)[:-1])


def functions(op):
    """Return variants with numbers, and with every parameter as a tensor."""
    return [(op, variant) for variant in ("plain", *learned(op))]


def outputs_and_gradients(run, function, values):
    outputs = run(*values)
    grads = torch.autograd.grad(outputs, values, cotangents(outputs), allow_unused=True)
    return [out.detach() for out in outputs], dict(zip(function.names, grads, strict=True))


def assert_same(run, function):
    """Check that outputs and gradients of ``run`` equal those of ``function``."""
    want, want_grads = outputs_and_gradients(function, function, function.values)
    got, grads = outputs_and_gradients(run, function, function.values)
    assert_equal(got, want)
    assert all(g is not None and g.any() for g in want_grads.values())
    assert_gradients_close(grads, want_grads)


def assert_second_derivative_is_refused(run, function, message):
    def twice():
        x, *others = function.values
        (grad,) = torch.autograd.grad(run(x, *others)[0].sum(), x, create_graph=True)
        return torch.autograd.grad(grad.sum(), x)

    with pytest.raises(RuntimeError, match=message):
        twice()


def refusal(op):
    return f"^{op.kernel}: a second derivative was asked for, but the surrogate gradient has none"


@needs_kernels
@over_neurons("op variant", functions)
def test_gradients_of_a_raw_call_are_the_same(op, variant):
    function = Function(op, variant)
    for every in EVERY:
        assert_same(lambda *values, k=every: function.raw(*values, every=k), function)


@needs_kernels
def test_second_derivative_of_a_raw_call_is_refused(op):
    function = Function(op, "plain")
    for every in EVERY:
        run = lambda *values, k=every: function.raw(*values, every=k)  # noqa: E731
        assert_second_derivative_is_refused(run, function, refusal(op))


@over_neurons("op variant", functions)
def test_gradients_under_vmap_are_those_of_a_loop(kernels, op, variant):
    """Map over all tensors, and over one of them."""
    function = Function(op, variant)
    every = [torch.stack([v, v.flip(0), v * 0.5]).detach().to(kernels.device) for v in function.values]
    for mapped in [range(len(every)), *([k] for k in range(len(every)))]:
        values = [v if k in mapped else v[0] for k, v in enumerate(every)]
        in_dims = tuple(0 if k in mapped else None for k in range(len(values)))

        def loop(*values, in_dims=in_dims):
            runs = [
                function(*(v if d is None else v[b] for v, d in zip(values, in_dims, strict=True))) for b in range(3)
            ]
            return [torch.stack(outs) for outs in zip(*runs, strict=True)]

        found = [
            outputs_and_gradients(run, function, [v.clone().requires_grad_() for v in values])
            for run in (torch.vmap(function, in_dims=in_dims), loop)
        ]
        assert_equal(found[0][0], found[1][0])
        assert_gradients_close(found[0][1], found[1][1])


@over_neurons("op variant", functions)
def test_gradients_of_many_weightings_at_once_are_those_of_a_loop(kernels, op, variant):
    """Use ``vmap`` over the backward pass, and ``is_grads_batched``, which does not use it."""
    function = Function(op, variant)
    values = [v.detach().to(kernels.device).requires_grad_() for v in function.values]
    outputs = function(*values)
    weights = [cotangents(outputs, seed) for seed in range(3)]
    together = tuple(torch.stack(of_output) for of_output in zip(*weights, strict=True))

    def gradients(*weights, **options):
        return torch.autograd.grad(outputs, values, weights, retain_graph=True, allow_unused=True, **options)

    loop = [gradients(*weighting) for weighting in weights]
    for got in (torch.vmap(gradients)(*together), gradients(*together, is_grads_batched=True)):
        for k, want in enumerate(loop):
            assert_gradients_close(
                {name: g[k] for name, g in zip(function.names, got, strict=True)},
                dict(zip(function.names, want, strict=True)),
            )


def test_second_derivative_of_many_weightings_is_refused(kernels, op):
    x = torch.randn(4, 3, device=kernels.device, requires_grad=True)
    out = op(x=x)[0]

    def gradient(weights):
        return torch.autograd.grad(out, x, weights, create_graph=True)[0]

    many = torch.vmap(gradient)(torch.rand(2, 4, 3, device=kernels.device))
    with pytest.raises(RuntimeError, match=refusal(op)):
        many.sum().backward()


def test_second_derivative_under_vmap_is_refused(kernels, op):
    function = Function(op, "plain")
    function.arguments = {
        k: a.to(kernels.device) if isinstance(a, torch.Tensor) else a for k, a in function.arguments.items()
    }

    def run(*values):
        return torch.vmap(function)(*(v[None] for v in values))

    assert_second_derivative_is_refused(run, function, refusal(op))


@needs_kernels
@over_neurons("op variant", functions)
def test_gradients_of_an_exported_program_are_the_same(op, variant):
    function = Function(op, variant)
    values = tuple(v.detach() for v in function.values)
    program = torch.export.export(function, values).module()
    assert_same(program, function)
    assert_second_derivative_is_refused(program, function, refusal(op))


@needs_kernels
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@over_neurons("op variant", functions)
def test_gradients_of_a_traced_module_are_the_same(op, variant):
    function = Function(op, variant)
    traced = torch.jit.trace(function, tuple(v.detach() for v in function.values))
    assert_same(traced, function)
    assert_second_derivative_is_refused(traced, function, refusal(op))


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
@over_neurons("op variant compiler", lambda op: [(*functions(op)[-1], compiler) for compiler in ("aot_eager", "eager")])
def test_gradients_of_a_compiled_module_are_the_same(op, variant, compiler):
    function = Function(op, variant)
    assert_same(torch.compile(function, fullgraph=True, backend=compiler), function)


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_second_derivative_of_a_compiled_module_is_refused(op):
    """PyTorch itself refuses it when it compiles the backward pass."""
    function = Function(op, "plain")
    for compiler, message in (
        ("eager", refusal(op)),
        ("aot_eager", "aot_autograd does not currently support double backward"),
    ):
        compiled = torch.compile(function, fullgraph=True, backend=compiler)
        assert_second_derivative_is_refused(compiled, function, message)


def test_training_what_comes_before_a_neuron_works_however_it_is_run(op):
    """Every layer gets a gradient; PyTorch would only warn of a missing one."""
    linear = torch.nn.Linear(3, 4, dtype=torch.float64)
    x = torch.rand(6, 5, 3, dtype=torch.float64) * 4

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, x):
            return op(x=self.linear(x))[0]

    def gradient(run):
        linear.zero_grad()
        run(x).sum().backward()
        return linear.weight.grad.clone()

    network = Network()
    want = gradient(network)
    assert want.any()
    torch.testing.assert_close(gradient(torch.vmap(network, in_dims=1, out_dims=1)), want)
    program = torch.export.export(network, (x,)).module()
    program.linear.weight.grad = None
    program(x).sum().backward()
    torch.testing.assert_close(program.linear.weight.grad, want)


def test_a_class_of_tensors_that_wants_to_be_asked_is_asked(op):
    class Named(torch.Tensor):
        pass

    sample = Sample(op, "plain", (5, 3), torch.float32)
    plain = op(**sample.arguments())
    arguments = sample.arguments()
    named = op(**{**arguments, "x": arguments["x"].as_subclass(Named)})
    for a, b in zip(plain, named, strict=True):
        assert type(b) is Named
        assert_equal([b.as_subclass(torch.Tensor)], [a])
