"""Layers in training tools: distributed, compiled, exported, mixed precision."""

import pytest
import torch
from interpreter import Interpreter
from torch import nn
from torch.utils.checkpoint import checkpoint

from snnfast import nn as sn


def small_net(**lif):
    torch.manual_seed(0)
    return nn.Sequential(sn.Time(nn.Linear(3, 8)), sn.LIF(**lif), nn.Linear(8, 2), sn.ParametricLIF(), sn.Rate())


def sequence(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 6


def gradients(net, loss):
    net.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in net.parameters()]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_training_lowers_the_loss():
    net, x = nn.Sequential(*small_net()[:3], sn.LI(), sn.Rate()), sequence(8, 16, 3)
    target = (x[..., 0] > x[..., 1]).float().mean(0).round().long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(net(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_gives_equal_gradients(use_reentrant):
    net, x = small_net(), sequence(5, 4, 3).requires_grad_()
    plain = gradients(net, net(x).square().sum())
    saved = gradients(net, checkpoint(net, x, use_reentrant=use_reentrant).square().sum())
    assert_same(saved, plain)


def test_gradients_accumulate_over_batches():
    net, x = small_net(), sequence(5, 4, 3)
    whole = gradients(net, net(x).square().sum())
    net.zero_grad()
    for part in x.split(2, dim=1):
        net(part).square().sum().backward()
    assert_same([p.grad for p in net.parameters()], whole)


def test_hooks_run():
    net, x = small_net(), sequence(5, 4, 3)
    seen = []
    net[1].register_forward_pre_hook(lambda module, args: seen.append("pre"))
    net[1].register_forward_hook(lambda module, args, spikes: seen.append(spikes.shape))
    net[1].register_full_backward_hook(lambda module, grad_in, grad_out: seen.append("backward"))
    net(x).sum().backward()
    assert seen == ["pre", (5, 4, 8), "backward"]


def test_hooks_run_in_single_steps():
    layer, seen = sn.LIF(stateful=True), []
    layer.register_forward_hook(lambda module, args, spikes: seen.append(spikes.shape))
    layer.step(torch.ones(2, 3))
    assert seen == [(1, 2, 3)]


@pytest.mark.parametrize("stateful", [False, True])
def test_autocast_from_linear_to_lif(stateful):
    net, x = small_net(stateful=stateful), sequence(5, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        current = net[0](x)
        spikes = net[1](current)
        rate = net(x) if not stateful else spikes.mean(0)
    assert current.dtype == spikes.dtype == torch.bfloat16
    torch.testing.assert_close(spikes, sn.LIF()(current), rtol=0, atol=0)
    if stateful:
        assert net[1].v.dtype == torch.float32
    rate.float().sum().backward()
    assert net[0].layer.weight.grad.dtype == torch.float32
    assert net[0].layer.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_whole_net_in_another_dtype(dtype):
    net, x = small_net(stateful=True).to(dtype), sequence(5, 4, 3).to(dtype)
    assert net(x).dtype == dtype
    net[1].detach()
    net(x).sum().backward()
    assert all(p.grad.dtype == dtype for p in net.parameters())


def test_compile_without_graph_breaks():
    net, x = small_net(), sequence(5, 4, 3)
    # Without code generation this takes a second, not twenty.
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    plain = gradients(net, net(x).square().sum())
    torch.testing.assert_close(compiled(x), net(x), rtol=0, atol=0)
    assert_same(gradients(net, compiled(x).square().sum()), plain)


def test_compile_with_state():
    net, compiled = small_net(stateful=True)[:2], small_net(stateful=True)[:2]
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for x in sequence(3, 5, 4, 3):
        torch.testing.assert_close(run(x), net(x), rtol=0, atol=0)
        torch.testing.assert_close(compiled[1].v, net[1].v)
        sn.detach(compiled)
        sn.detach(net)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_layer_refuses_a_state_whose_graph_is_freed(backend):
    torch._dynamo.reset()
    net, x = small_net(stateful=True)[:2], sequence(5, 4, 3)
    run = torch.compile(net, fullgraph=True, backend=backend)
    run(x).sum().backward()
    with pytest.raises(RuntimeError, match="the state v carries the graph of an earlier batch"):
        run(x)
    found = []
    for whole in (run, net):  # one backward pass through two calls still works
        sn.reset(net)
        found.append(gradients(net, (whole(x) + whole(x)).sum()))
        sn.detach(net)
        found[-1] += gradients(net, whole(x).sum())
    assert_same(*found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sn.ParametricLIF(channels=5, learnable_threshold=True),
        lambda: sn.LIF(decay=nn.Parameter(torch.rand(5, 7)), v_threshold=torch.rand(7)),
    ],
    ids=["plif", "decay of neurons"],
)
def test_compile_with_any_shape_and_tensors_of_parameters(make):
    torch._dynamo.reset()
    layer = make()
    run = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for T, B in ((3, 4), (6, 2)):
        x, again = (sequence(T, B, 5, 7).requires_grad_() for _ in range(2))
        out, want = run(x), layer(again)
        torch.testing.assert_close(out, want, rtol=0, atol=0)
        out.square().sum().backward()
        want.square().sum().backward()
        torch.testing.assert_close(x.grad, again.grad)


def test_export_with_dynamic_time_and_batch():
    net = small_net().eval()
    dynamic = torch.export.Dim.DYNAMIC
    exported = torch.export.export(net, (sequence(5, 4, 3),), dynamic_shapes=({0: dynamic, 1: dynamic},)).module()
    for shape in ((5, 4, 3), (7, 2, 3)):
        torch.testing.assert_close(exported(sequence(*shape)), net(sequence(*shape)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "layer", [sn.IF(), sn.LIF(), sn.LIF(tau=torch.full((3,), 3.0)), sn.CubaLIF(), sn.ALIF(), sn.LI()]
)
def test_vmap_is_a_loop_over_the_mapped_dimension(layer):
    x = sequence(4, 5, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(layer)(x), torch.stack([layer(one) for one in x]), rtol=0, atol=0)


def test_vmap_over_an_ensemble_of_layers():
    layers = [sn.ParametricLIF(tau) for tau in (1.5, 2.0, 4.0)]
    params, buffers = torch.func.stack_module_state(layers)
    x = sequence(5, 2, 3)

    def run(params, buffers):
        return torch.func.functional_call(layers[0], (params, buffers), (x,))

    with torch.no_grad():
        ensemble = torch.vmap(run)(params, buffers)
        torch.testing.assert_close(ensemble, torch.stack([layer(x) for layer in layers]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: sn.ParametricLIF(channels=3, learnable_threshold=True),
        lambda: sn.CubaLIF(learnable=True),
        lambda: sn.ALIF(beta=nn.Parameter(torch.full((3,), 0.3))),
        lambda: sn.LI(v_rest=nn.Parameter(torch.tensor(0.1))),
    ],
    ids=["plif", "cuba", "alif", "li"],
)
def test_vmap_over_what_needs_gradients_gives_those_of_a_loop(make):
    """This holds for the layer, the layers before it, and the input."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 3), make()), sequence(4, 5, 2, 3)
    found = []
    for run in (torch.vmap(net), lambda x: torch.stack([net(one) for one in x])):
        x = x.detach().requires_grad_()
        grads = gradients(net, run(x).square().sum())
        assert all(g.any() for g in grads)
        found.append([*grads, x.grad])
    assert_same(*found)


def test_an_ensemble_is_trained_under_vmap():
    """Each of the stacked parameters gets the gradient of its layer alone."""
    layers = [sn.ParametricLIF(tau) for tau in (1.5, 2.0, 4.0)]
    params, buffers = torch.func.stack_module_state(layers)
    x = sequence(5, 2, 3)

    def run(params, buffers):
        return torch.func.functional_call(layers[0], (params, buffers), (x,))

    torch.vmap(run)(params, buffers).square().sum().backward()
    for k, layer in enumerate(layers):
        layer(x).square().sum().backward()
        torch.testing.assert_close(params["w"].grad[k], layer.w.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("neuron", [sn.ParametricLIF(), sn.RLIF(8, max_delay=2.0)])
def test_a_traced_layer_trains_what_comes_before_it(neuron):
    """PyTorch traces again without gradients, and compares."""
    net, x = nn.Sequential(*small_net()[:1], neuron), sequence(5, 4, 3)
    traced = torch.jit.trace(net, (x,))
    plain = gradients(net, net(x).square().sum())
    assert_same(gradients(net, traced(x).square().sum()), plain)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_of_a_stateful_layer_refuses():
    """A traced layer would begin every call with the state of the trace."""
    with pytest.raises(RuntimeError, match=r"cannot keep its state in torch\.jit\.trace"):
        torch.jit.trace(sn.LIF(stateful=True), (sequence(5, 4, 3),))


def test_an_exported_net_trains():
    net, x = small_net(), sequence(5, 4, 3)
    plain = dict(zip(dict(net.named_parameters()), gradients(net, net(x).square().sum())))
    exported = torch.export.export(net, (x,)).module()
    exported(x).square().sum().backward()
    got = {name: p.grad for name, p in exported.named_parameters()}
    torch.testing.assert_close(got, plain)


def test_vmap_over_a_stateful_layer_refuses():
    layer = sn.LIF(stateful=True)
    with pytest.raises(RuntimeError, match=r"cannot keep its state under torch\.vmap"):
        torch.vmap(layer)(sequence(4, 5, 2, 3))
    assert layer.v is None


DISTRIBUTED = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from snnfast import nn as sn

torch.set_num_threads(1)
rank = int(sys.argv[1])
import torch._dynamo  # else the optimizer imports it later, and it keeps the group
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.Sequential(
    sn.Time(nn.Linear(3, 8), nn.BatchNorm1d(8).eval()), sn.LIF(stateful=True), nn.Linear(8, 2),
    sn.ParametricLIF(), sn.Rate())
x = torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(1)) * 6
net(x).square().mean().backward()
expected = [p.grad.clone() for p in net.parameters()]
whole = net[1].v.detach()
sn.reset(net)
net.zero_grad()

ddp = DistributedDataParallel(net)
mine = x.split(2, dim=1)[rank]
ddp(mine).square().mean().backward()
for p, e in zip(net.parameters(), expected, strict=True):
    torch.testing.assert_close(p.grad, e)
torch.testing.assert_close(net[1].v, whole.split(2)[rank])
sn.detach(net)
before = net[1].v.clone()
ddp(torch.zeros_like(mine))
lif = sn.LIF(stateful=True)
lif.v = before
lif(net[0](torch.zeros_like(mine)))
torch.testing.assert_close(net[1].v, lif.v)

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

sharded = nn.Sequential(sn.Time(nn.Linear(3, 8)), sn.ParametricLIF(stateful=True), sn.Rate())
fully_shard(sharded, mesh=init_device_mesh("cpu", (2,)))  # else on a GPU, where there is one
sharded(mine).sum().backward()
assert sharded[1].w.grad.full_tensor().abs() > 0
assert sharded[1].v.shape == (2, 8)
del ddp
dist.destroy_process_group()
print("fine")
"""


def test_two_processes_give_the_gradients_of_the_whole_batch(tmp_path):
    store, network = tmp_path / "store", {"GLOO_SOCKET_IFNAME": "lo"}
    processes = [Interpreter(DISTRIBUTED, rank, store, **network) for rank in (0, 1)]
    assert [p.wait().stdout for p in processes] == ["fine\n"] * 2
