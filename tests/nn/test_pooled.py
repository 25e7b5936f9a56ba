"""``Pooled``: neurons and the pooling of their spikes in one pass equal the two layers bit for bit."""

from copy import deepcopy

import pytest
import torch
from backends import PRESENT, force
from samples import assert_equal
from torch import nn

import snnfast
import snnfast.nn as sn
from snnfast import ops
from snnfast.nn import pooled as module
from snnfast.nn.tracer import Tracer
from snnfast.ops.repeat import repeat
from snnfast.reference.call import flatten

pytestmark = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
NEURONS = {
    "LIF": lambda: sn.LIF(2.0),
    "soft": lambda: sn.LIF(2.0, v_reset=None, strict=True, surrogate="triangle"),
    "stateful": lambda: sn.LIF(2.0, stateful=True),
    "refractory": lambda: sn.LIF(2.0, refractory=2, stateful=True),
    "several spikes": lambda: sn.IF(v_reset=None, max_spikes=3),
    "learned": lambda: sn.ParametricLIF(2.0),
    "learned by channel": lambda: sn.ParametricLIF(3.0, channels=8),
    "CubaLIF": lambda: sn.CubaLIF(stateful=True),
    "ALIF": lambda: sn.ALIF(),
    "AdLIF": lambda: sn.AdLIF(8),
    "Izhikevich": lambda: sn.Izhikevich(),
}
SILENT = ("lif", "cuba", "alif", "adlif")  # neurons that may have a refractory period
# B, H, W, pooling: windows that cover the image, remaining rows and columns, bands of rows, one window an image
SHAPES = {
    "whole": (3, 8, 6, nn.MaxPool2d(2)),
    "left over": (2, 7, 9, nn.MaxPool2d((2, 3))),
    "average": (3, 6, 4, nn.AvgPool2d((3, 2))),
    "average, left over": (2, 5, 5, nn.AvgPool2d(2)),
    "one window": (4, 5, 5, nn.MaxPool2d(5)),
    "large": (2, 40, 24, nn.MaxPool2d(2)),
}


@pytest.fixture
def passes(monkeypatch):
    """Count the calls that ran in one pass."""
    found = []

    def pooled(*arguments):
        outputs = module_pooled(*arguments)
        found.extend([1] if outputs is not None else [])
        return outputs

    module_pooled = module.pooled
    monkeypatch.setattr(module, "pooled", pooled)
    return found


def images(T, B, H, W, channels=8, dtype=torch.float64, layout=torch.channels_last):
    x = torch.randn(T * B, channels, H, W, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return (3 * x).contiguous(memory_format=layout).unflatten(0, (T, B))


def pair(neuron, pool):
    """Return the network in one pass, and the two layers one after the other."""
    torch.manual_seed(0)
    fused = sn.Pooled(neuron(), pool)
    torch.manual_seed(0)
    return fused, nn.Sequential(neuron(), sn.Time(pool))


def run(net, x, repeats=0):
    """Return outputs and states of two calls, and gradients."""
    leaf = x.detach().requires_grad_()
    outputs = []
    for _ in range(2):
        outputs.append(net(repeat(leaf[0], repeats) if repeats else leaf))
    states = [getattr(net[0], name) for name in net[0].states if net[0].stateful]
    outputs += [state for state in states if state.requires_grad]
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) for y in outputs]
    wanted = [leaf, *net.parameters()]
    return outputs, torch.autograd.grad(outputs, wanted, grads)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("shape", ["whole", "left over", "average"])
def test_every_neuron_equals_the_two_layers(neuron, shape, passes):
    B, H, W, pool = SHAPES[shape]
    fused, plain = pair(NEURONS[neuron], pool)
    x = images(35, B, H, W)  # beyond the first checkpoint
    (y, grads), (y2, grads2) = run(fused, x), run(plain, x)
    assert len(passes) == 2
    for a, b in zip((*y, *grads), (*y2, *grads2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert 0 < (y[0] > 0).double().mean() < 1 or shape == "average"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("T", [1, 5, 70])
def test_every_shape_equals_the_two_layers(shape, dtype, T, passes):
    B, H, W, pool = SHAPES[shape]
    fused, plain = pair(NEURONS["stateful"], pool)
    x = images(T, B, H, W, 21, dtype)
    (y, grads), (y2, grads2) = run(fused, x), run(plain, x)
    assert len(passes) == 2
    assert y[0].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    for a, b in zip((*y, *grads), (*y2, *grads2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with torch.no_grad():
        sn.reset(fused)
        torch.testing.assert_close(fused(x), y[0], rtol=0, atol=0)


@pytest.mark.parametrize("shape", ["whole", "left over"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("T", [2, 3, 40])
def test_an_input_that_repeats_has_the_same_sum_of_gradients(shape, dtype, T, passes):
    B, H, W, pool = SHAPES[shape]
    fused, plain = pair(NEURONS["learned"], pool)
    x = images(1, B, H, W, dtype=dtype)
    y, grads = run(fused, x, repeats=T)
    leaf = x.expand(T, *x.shape[1:])
    y2, grads2 = run(plain, leaf)
    assert len(passes) == 2
    torch.testing.assert_close(y[0], y2[0], rtol=0, atol=0)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.05}[dtype]
    want = (grads2[0].double().sum(0, keepdim=True), *grads2[1:])
    for a, b in zip(grads, want, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=tolerance, atol=tolerance)


def test_worked_by_hand():
    # One channel of four counts: v[1] = x, v[2] = 2 x where x stays below the threshold of 1.
    x = torch.tensor([[0.25, 1.0, 0.5, 0.0], [0.0, 0.75, 0.25, 0.25]])
    x = x.expand(2, 1, 4, 2, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    x = x.unflatten(0, (2, 1)).requires_grad_()
    net = sn.Pooled(sn.IF(surrogate="straight_through", detach_reset=True), nn.MaxPool2d(2))
    y = net(x)
    assert y[:, 0, 0, 0].tolist() == [[1.0, 0.0], [1.0, 1.0]]
    y[1].sum().backward()
    # Of step 2 the windows fire at (0, 1), which was reset after step 1, and at (0, 2), whose membrane came from both.
    grad = torch.zeros(2, 2, 4)
    grad[1, 0, 1] = grad[0, 0, 2] = grad[1, 0, 2] = 1
    torch.testing.assert_close(x.grad[:, 0, 0], grad, rtol=0, atol=0)


@pytest.mark.parametrize("shape", ["whole", "left over", "large"])
@pytest.mark.parametrize(("size", "one_pass"), [((8, 1, 1), True), ((1,), True), ("image", True), ("batch", False)])
def test_parameters_of_channels_pixels_and_images(shape, size, one_pass, passes):
    B, H, W, pool = SHAPES[shape]
    size = {"image": (8, H, W), "batch": (B, 8, H, W)}.get(size, size)
    threshold = torch.rand(size, generator=torch.Generator().manual_seed(2)).double() + 0.5

    def neuron():
        return sn.LIF(2.0, v_threshold=nn.Parameter(threshold.clone()))

    fused, plain = pair(neuron, pool)
    x = images(4, B, H, W)
    (y, grads), (y2, grads2) = run(fused, x), run(plain, x)
    assert len(passes) == 2 * one_pass
    for a, b in zip((*y, *grads), (*y2, *grads2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def one_after_the_other():
    lif = sn.LIF(2.0)
    hooked, seen = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2)), sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2))
    hooked[0].register_forward_hook(lambda layer, args, y: y * 2)
    seen[1].layer.register_forward_pre_hook(lambda layer, args: None)
    x = images(3, 2, 6, 6)
    return {
        "contiguous": (sn.Pooled(lif, nn.MaxPool2d(2)), x.contiguous()),
        "few channels": (sn.Pooled(lif, nn.MaxPool2d(2)), x[:, :, :1]),
        "half": (sn.Pooled(lif, nn.MaxPool2d(2)), x.half()),
        "overlap": (sn.Pooled(lif, nn.MaxPool2d(3, 2)), x),
        "padding": (sn.Pooled(lif, nn.AvgPool2d(2, padding=1)), x),
        "slow": (sn.Pooled(lif, sn.Time(nn.MaxPool2d(2), fast=False)), x),
        "neuron hooked": (hooked, x),
        "pooling hooked": (seen, x),
    }


@pytest.mark.parametrize("case", one_after_the_other())
def test_elsewhere_the_two_layers_run(case, passes):
    net, x = one_after_the_other()[case]
    want = net[1](net[0](x))
    torch.testing.assert_close(net(x), want, rtol=0, atol=0)
    assert not passes


def test_a_hook_that_is_an_empty_list_is_called():
    class Record(list):
        def __call__(self, layer, args):
            self.append(args)

    for place in ("0", "1.layer"):
        net, record = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2)), Record()
        net.get_submodule(place).register_forward_pre_hook(record)
        net(images(3, 2, 6, 6))
        assert len(record) == 1


def test_steps_equal_the_sequence():
    layer = sn.Pooled(sn.LIF(2.0, stateful=True), nn.MaxPool2d(2))
    x = images(5, 2, 6, 6)
    steps = torch.stack([layer.step(x_t) for x_t in x])
    sn.reset(layer)
    assert_equal([steps], [layer(x)])


def test_what_is_set_reaches_the_neuron():
    layer = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2))
    copy = deepcopy(layer)
    layer.v_threshold, layer.stateful = 1e6, True
    assert (layer[0].v_threshold, layer[0].stateful) == (layer.v_threshold, layer.stateful)
    assert (copy[0].v_threshold, copy.stateful) == (1.0, False)
    x = images(3, 2, 6, 6)
    assert copy(x).any()
    assert not layer(x).any()
    layer.v = torch.full_like(layer.v, 1e7)
    assert layer(x).any()
    layer.name, layer.training = "mine", False
    assert not hasattr(layer[0], "name")
    assert layer[0].training


def test_membranes_are_refused():
    with pytest.raises(ValueError, match="Pooled: neuron must have return_v_seq=False"):
        sn.Pooled(sn.LIF(2.0, return_v_seq=True), nn.MaxPool2d(2))


def test_threads_change_nothing():
    fused, _ = pair(NEURONS["learned"], nn.MaxPool2d(2))
    x = images(6, 5, 40, 24)
    found = []
    for threads in (1, 4):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found.append(run(fused, x))
        finally:
            torch.set_num_threads(before)
    (y, grads), (y2, grads2) = found
    for a, b in zip((*y, *grads[:1]), (*y2, *grads2[:1]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(grads, grads2)


def test_tools_see_the_two_layers():
    conv = sn.Time(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    net = nn.Sequential(conv, sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2)))
    targets = [node.target for node in Tracer().trace(net).nodes if node.op == "call_module"]
    assert targets == ["0", "1.0", "1.1"]
    x = torch.rand(3, 2, 1, 8, 8)
    net(x)
    want = net.eval()(x)
    torch.testing.assert_close(sn.fuse(net)(x), want)
    assert sn.fuse(net)[1][0].tau == 2.0


def test_a_monitor_sees_spikes_before_they_are_pooled():
    net = sn.Pooled(sn.IF(), nn.MaxPool2d(2))
    x = torch.zeros(3, 2, 8, 6, 6)
    x[:, :, :, 0, 0] = 1
    with snnfast.monitor(net) as watching:
        y = net(x)
    assert watching.activity().scalars()["0/spikes"] == 3 * 8  # a sample
    torch.testing.assert_close(y, net(x), rtol=0, atol=0)


def test_nir_has_the_two_layers():
    pytest.importorskip("nir")
    torch.manual_seed(0)
    net = nn.Sequential(sn.Time(nn.Conv2d(1, 8, 3)), sn.Pooled(sn.LIF(2.0), nn.AvgPool2d(2)))
    graph = snnfast.nir.to_nir(net, (1, 8, 8), dt=1.0, scheme="euler")
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds == ["Input", "Conv2d", "LIF", "AvgPool2d", "Output"]
    x = 3 * torch.rand(4, 2, 1, 8, 8)
    torch.testing.assert_close(snnfast.nir.from_nir(graph, dt=1.0, scheme="euler")(x), net(x))


def test_compiled_and_exported_it_gives_the_same():
    net = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2)).eval()
    x = images(3, 2, 6, 6, dtype=torch.float32)
    want = net(x)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), want, rtol=0, atol=0)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager")(x), want, rtol=0, atol=0)
    torch.testing.assert_close(torch.vmap(net)(x.unsqueeze(0))[0], want, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_every_backend_gives_the_same(name, passes):
    fused, plain = pair(NEURONS["learned"], nn.MaxPool2d(2))
    x = images(35, 3, 8, 6)
    want, _ = run(plain, x)
    with force(name) as place:
        fused, plain = fused.to(place.device), plain.to(place.device)
        (y, grads), (y2, grads2) = run(fused, x.to(place.device)), run(plain, x.to(place.device))
    assert bool(passes) == (name == "cpu")
    for a, b in zip((*y, *grads), (*y2, *grads2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    if place.exact:
        torch.testing.assert_close(y[0], want[0], rtol=0, atol=0)


def test_a_second_derivative_is_refused():
    net = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2))
    x = images(3, 2, 6, 6).requires_grad_()
    (grad,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^lif: a second derivative was asked for"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.ReLU(), nn.MaxPool2d(2)), "neuron must be a spiking layer of snnfast.nn, got ReLU"),
        ((sn.LIF, nn.MaxPool2d(2)), "neuron must be .*, got the class LIF, not an instance of it"),
        ((sn.LIF(2.0), nn.ReLU()), "pool must be nn.MaxPool2d or nn.AvgPool2d, got ReLU"),
        ((sn.LIF(2.0), sn.Time(nn.MaxPool2d(2), nn.ReLU())), "pool must be .*, got Sequential"),
        ((sn.LIF(2.0), 2), "pool must be .*, got int"),
        ((sn.LI(2.0), nn.MaxPool2d(2)), "neuron must be a spiking layer of snnfast.nn, got LI"),
    ],
)
def test_other_layers_are_refused(arguments, message):
    with pytest.raises(TypeError, match=f"Pooled: {message}"):
        sn.Pooled(*arguments)


def raw(direction, **changed):
    """Call the kernel itself, with some arguments replaced."""
    x = torch.rand(3, 2, 4, 6, 8)
    call = ops.lif.check(changed.pop("x", x), None, tau=2.0)._replace(**changed.pop("call", {}))
    arguments = {"kernel_h": 2, "kernel_w": 2, "average": False}
    more = {"every": 32}
    if direction == "backward":
        places = torch.zeros(3, 2, 2, 3, 8, dtype=torch.uint8)
        more = {"places": places, "x_repeats": False, "checkpoints": torch.empty(0), "every": 32}
        more |= {"state_needed": False, "grad_y": torch.rand(3, 2, 2, 3, 8), "grad_v": None}
        more |= {"grad_v_seq": None}
    arguments |= more
    kernel = getattr(torch.ops.snnfast, f"pooled_lif_{direction}")
    return kernel(*flatten(call), *(arguments | changed).values())


def test_raw_kernels_keep_memory_safe():
    raw("forward"), raw("backward")
    for direction in ("forward", "backward"):
        for changed, message in (
            ({"x": torch.rand(3, 2, 4, 6)}, r"x must have shape \[T, B, H, W, C\]"),
            ({"x": torch.rand(3, 2, 4, 6, 3)}, "x must have at least 4 channels, got 3"),
            ({"kernel_h": 5}, "the window must have at least 1 x 1 pixels"),
            ({"kernel_w": 0}, "the window must have at least 1 x 1 pixels"),
            ({"call": {"fires": False}}, "fires must be true, got false"),
            ({"call": {"return_v_seq": True}}, "return_v_seq must be false, got true"),
            (
                {"call": {"v_threshold": torch.ones(2, 4, 6, 8)}},
                "parameters must be the same for all images, got one for each of 384 neurons",
            ),
        ):
            with pytest.raises(RuntimeError, match=f"pooled_lif: {message}"):
                raw(direction, **changed)
    for changed, message in (
        ({"places": torch.zeros(3, 2, 2, 3, 4, dtype=torch.uint8)}, "places must have shape"),
        ({"places": torch.zeros(3, 2, 2, 3, 8)}, "places must be uint8, got float32"),
        ({"grad_y": torch.rand(3, 2, 4, 6, 8)}, "grad_y must have shape"),
        ({"grad_y": torch.rand(3, 2, 2, 3, 8).double()}, "grad_y must be float32, got float64"),
        ({"grad_v_seq": torch.rand(3, 2, 4, 6, 8)}, "grad_v_seq must be none, got a tensor"),
        ({"checkpoints": torch.empty(5)}, "checkpoints must have 0 elements"),
    ):
        with pytest.raises(RuntimeError, match=f"pooled_lif: {message}"):
            raw("backward", **changed)


@pytest.mark.parametrize(("T", "average"), [(3, False), (40, True)])
def test_opcheck(T, average):
    x = torch.rand(T, 2, 5, 6, 4, dtype=torch.float64).requires_grad_()
    v = torch.rand(2, 5, 6, 4, dtype=torch.float64).requires_grad_()
    threshold = torch.rand(4, dtype=torch.float64).requires_grad_()
    call = ops.lif.check(x, v, tau=2.0, v_threshold=threshold)
    torch.library.opcheck(torch.ops.snnfast.pooled_lif_forward, (*flatten(call), 2, 3, average, 32))


@pytest.mark.parametrize("stem", ["lif", "refractory_adlif"])  # the generated code is the same for all
def test_opcheck_of_neurons(stem):
    x = torch.rand(3, 2, 4, 4, 8, dtype=torch.float64).requires_grad_()
    silence = {"refractory": 2} if stem.startswith("refractory_") else {}
    call = getattr(ops, stem.removeprefix("refractory_")).check(x, **silence)
    kernel = getattr(torch.ops.snnfast, f"pooled_{stem}_forward")
    torch.library.opcheck(kernel, (*flatten(call), 2, 2, False, 32))


def test_no_images_and_no_steps():
    for shape in ((3, 0, 8, 6, 6), (0, 2, 8, 6, 6)):
        x = torch.rand(shape, requires_grad=True)
        y = sn.Pooled(sn.LIF(2.0), nn.MaxPool2d(2))(x)
        assert y.shape == (*shape[:3], 3, 3)
        y.sum().backward()
        assert x.grad.shape == shape
