"""Suite of all ops but neurons: raw calls, opcheck, vmap, compilation, export, derivatives that none has.

The calls are those of tests/every_op.py. Neurons have such a suite, over all their arguments, in tests/neurons.
"""

import re

import every_op
import pytest
import torch
from backends import PRESENT, force
from every_op import tensors
from raw_calls import WITH_AUTOGRAD, Recorder, copied, opcheck, wrong
from samples import assert_equal

from snnfast.backend import BY_REFERENCE
from snnfast.reference.neuron_arguments import NEURONS

SIZES = {"steps": 6, "neurons": 24}
CALLS = [name for name in every_op.calls("cpu", **SIZES) if name not in NEURONS]
pytestmark = [
    pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels"),
    pytest.mark.filterwarnings("ignore:.*prop. all outputs are silent"),
]


def op_of(name):
    """Return the op of a call: ``batch_norm`` of ``batch_norm, weights``."""
    return re.split(",| ", name)[0]


PURE = [name for name in CALLS if not op_of(name).endswith("_")]
CPU_ALONE = ("batch_norm", "pool2d", "spike_conv2d", "spike_linear", *BY_REFERENCE)  # ops, or ways to call one
# Their transforms are PyTorch's.
BY_PYTORCH = ("batch_norm", "pool2d", "spike_conv2d")
SMOOTH = [name for name in PURE if every_op.calls("cpu", **SIZES)[name].smooth]


@pytest.fixture
def call(request):
    """Return the call of this name on the CPU; the kernels of CUDA are registered by the same code."""
    with force("cpu"):
        yield every_op.calls("cpu", **SIZES)[request.param]


@pytest.fixture
def call_anywhere(request, kernels):
    """Return the call of this name on the device of the kernels."""
    name = request.param.partition(",")[0]
    if kernels.name != "cpu" and name in CPU_ALONE:
        pytest.skip("its kernels are for the CPU alone")
    return every_op.calls(kernels.device, **SIZES)[request.param]


def over(names, fixture="call"):
    return pytest.mark.parametrize(fixture, names, indirect=True)


def kernels_of(call):
    """Return the calls of kernels in a call, forward and backward."""
    with Recorder() as recorder:
        call.run()
    assert recorder.calls
    return recorder.calls


# ---- registration


def requiring(args):
    """Return copies of arguments of a forward kernel that require gradients, where they can."""
    return [a.requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in copied(args)]


@over(CALLS)
def test_opcheck_finds_nothing(call, request):
    """AOTAutograd once an op, with gradients where there are any: it then runs the backward kernel, too."""
    found = kernels_of(call)
    for func, args in found:
        opcheck(func, args)
    forward, args = found[0]
    if call.smooth:
        args = requiring(args)
        opcheck(forward, args)
    if "," not in request.node.callspec.params["call"]:
        opcheck(forward, args, WITH_AUTOGRAD)


def on_one_input(call, k):
    """Return a call as a function of its input ``k``, and three values of it, stacked."""

    def run(value):
        inputs = list(call.inputs)
        inputs[k] = value
        return tensors(call.function(*inputs))

    value = call.inputs[k]
    return run, torch.stack([value, value.flip(0), value.roll(1, 0)])


@over([name for name in PURE if op_of(name) != "poisson"])
def test_vmap_equals_a_loop(call, request):
    """Over each input, from each side, with gradients; and over none."""
    exact = op_of(request.node.callspec.params["call"]) not in BY_PYTORCH
    for k in range(len(call.inputs)):
        run, batch = on_one_input(call, k)
        want = [torch.stack(ts) for ts in zip(*map(run, batch), strict=True)]
        for dim in (0, -1):
            values = batch.movedim(0, dim).contiguous()
            got = list(torch.vmap(run, in_dims=dim)(values))
            torch.testing.assert_close(got, want, **{"rtol": 0, "atol": 0} if exact else {})
        if exact:
            none = torch.vmap(run)(batch[:0])
            assert [y.shape[1:] for y in none] == [y.shape[1:] for y in want]
        if call.smooth:
            found = [gradient(torch.vmap(run), batch), torch.stack([gradient(run, value) for value in batch])]
            torch.testing.assert_close(*found, **{} if exact else {"rtol": 1e-4, "atol": 1e-4})


def gradient(run, value):
    """Return the gradient of a weighted sum over the outputs, with the same weights for each of a batch."""
    leaf = value.clone().requires_grad_()
    losses = [(y * torch.linspace(0.5, 1, y.shape[-1], device=y.device)).sum() for y in run(leaf) if y.requires_grad]
    return torch.autograd.grad(sum(losses), leaf)[0]


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def assert_same(call, function):
    torch.testing.assert_close(call.run(function), call.run(), rtol=1e-5, atol=1e-5)


@over(CALLS)
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_to_one_graph(call):
    assert_same(call, torch.compile(call.function, backend="aot_eager", fullgraph=True))


@over(PURE)
def test_exports(call):
    assert_same(call, torch.export.export(Module(call.function), call.inputs).module())


# ---- derivatives that no op has


@over(SMOOTH)
def test_second_derivatives_are_refused_by_name(call, request):
    op = op_of(request.node.callspec.params["call"])
    inputs = [x.clone().requires_grad_() for x in call.inputs]
    y = tensors(call.function(*inputs))[0]
    weights = torch.ones_like(y, requires_grad=True)
    grads = torch.autograd.grad(y, inputs, weights, create_graph=True)
    with pytest.raises(RuntimeError, match=rf"^{op}: a second derivative"):
        sum(grad.sum() for grad in grads).backward()


@over([name for name in SMOOTH if op_of(name) not in BY_PYTORCH])
def test_transforms_are_refused_by_name(call, request):
    op = op_of(request.node.callspec.params["call"])
    run, _ = on_one_input(call, 0)
    x = call.inputs[0]
    with pytest.raises(RuntimeError, match=rf"^{op}: torch.func.grad, vjp and jacrev"):
        torch.func.grad(lambda x: run(x)[0].sum())(x)
    with pytest.raises(RuntimeError, match=rf"^{op}: forward-mode differentiation is not supported"):
        torch.func.jvp(lambda x: run(x)[0], (x,), (x,))


# ---- memory


@over(CALLS, "call_anywhere")
def test_uninitialised_memory_is_not_read(call_anywhere, request):
    want = call_anywhere.run()
    request.getfixturevalue("nan_memory")
    assert_equal(call_anywhere.run(), want)


@over(CALLS, "call_anywhere")
def test_raw_calls_with_any_wrong_tensor_raise_or_return(call_anywhere):
    """They never crash, and an error names the kernel; what must raise stands in the tests of each op."""
    raised, unnamed = 0, []
    for func, args in kernels_of(call_anywhere):
        kernel = re.sub("(_forward|_backward|_)$", "", func._schema.name.partition("::")[2])
        for k, arg in enumerate(args):
            for _, bad in wrong(arg) if isinstance(arg, torch.Tensor) else ():
                try:
                    func(*copied([*args[:k], bad.to(arg.device), *args[k + 1 :]]))
                except RuntimeError as error:
                    raised += 1
                    unnamed += [] if kernel in str(error) else [str(error)]
    assert raised
    assert unnamed == []
