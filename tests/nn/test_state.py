import copy
import io
import pickle

import pytest
import torch
from jelly import LIFNode
from torch import nn
from torch.utils.checkpoint import checkpoint

import snnfast
from snnfast import nn as sn

STATEFUL = [sn.IF, sn.LIF, sn.ParametricLIF, sn.CubaLIF, sn.ALIF, sn.LI, sn.CubaLI]
STATEFUL += [sn.QIF, sn.EIF, sn.Izhikevich]


def sequence(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def small_net(stateful=True):
    return nn.Sequential(
        nn.Linear(3, 4),
        sn.LIF(stateful=stateful),
        nn.Linear(4, 2),
        sn.CubaLIF(stateful=stateful),
        sn.ALIF(stateful=stateful),
        sn.LI(stateful=stateful),
    )


def states(net):
    return {
        f"{name}.{state}": getattr(m, state)
        for name, m in net.named_modules()
        if isinstance(m, sn.state.Stateful)
        for state in m.states
    }


@pytest.mark.parametrize("layer", STATEFUL)
def test_stateless_by_default(layer):
    layer, x = layer(), sequence(4, 2, 3)
    first = layer(x)
    torch.testing.assert_close(layer(x), first, rtol=0, atol=0)
    assert layer.v is None


@pytest.mark.parametrize("layer", STATEFUL)
def test_state_continues_the_sequence(layer):
    whole, parts, x = layer(), layer(stateful=True), sequence(7, 2, 3)
    torch.testing.assert_close(torch.cat([parts(x[:3]), parts(x[3:])]), whole(x))
    sn.reset(parts)
    torch.testing.assert_close(parts(x), whole(x), rtol=0, atol=0)


@pytest.mark.parametrize("layer", STATEFUL)
def test_step_is_one_step_of_the_sequence(layer):
    whole, single, x = layer(), layer(stateful=True), sequence(5, 2, 3)
    torch.testing.assert_close(torch.stack([single.step(x_t) for x_t in x]), whole(x))


@pytest.mark.parametrize("kind", [sn.LIF, sn.CubaLIF, sn.AdLIF, sn.ParametricLIF])
def test_a_layer_at_rest_starts_at_v_init(kind):
    """A number and a value for each channel are the op's membrane before the first step; a parameter has a gradient."""
    x = torch.rand(6, 2, 3, 4, generator=torch.Generator().manual_seed(0)) * 2
    torch.manual_seed(0)
    plain = kind(stateful=True, return_v_seq=True)
    for v_init in (0.4, nn.Parameter(torch.tensor([0.0, 0.4, 0.8]).view(3, 1))):
        torch.manual_seed(0)
        layer = kind(v_init=v_init, return_v_seq=True)
        plain.reset()
        plain.v = torch.as_tensor(v_init).detach().expand(x.shape[1:]).clone()
        want = plain(x)[1].detach()
        torch.testing.assert_close(layer(x)[1].detach(), want, rtol=0, atol=0)
        torch.testing.assert_close(layer(x)[1].detach(), want, rtol=0, atol=0)  # it is kept nowhere
        layer.stateful = True
        parts = torch.cat([layer(x[:2])[1], layer(x[2:])[1]]).detach()
        torch.testing.assert_close(parts, want, rtol=0, atol=0)
        layer.reset()
        torch.testing.assert_close(layer(x)[1].detach(), want, rtol=0, atol=0)
    layer.reset()
    layer(x)[1].sum().backward()
    assert bool(v_init.grad.any())
    assert "v_init=" in repr(layer)
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: v_init must be a number or broadcast to x\.shape\[1:\]"):
        kind(v_init=torch.ones(5))(x)


def test_step_returns_the_membrane_too():
    layer = sn.LIF(stateful=True, return_v_seq=True)
    spikes, v = layer.step(sequence(2, 3))
    assert spikes.shape == v.shape == (2, 3)
    torch.testing.assert_close(v, layer.v, rtol=0, atol=0)


def test_step_of_a_stateless_layer_raises():
    with pytest.raises(RuntimeError, match=r"LIF\.step: needs stateful=True"):
        sn.LIF().step(sequence(2, 3))


def test_graph_reaches_through_calls_until_detach():
    layer, x = sn.LIF(stateful=True), sequence(2, 2, 3).requires_grad_()
    layer(x[:1])
    layer(x[1:]).sum().backward()
    through_time = x.grad.clone()
    x.grad = None
    sn.LIF()(x)[1:].sum().backward()
    torch.testing.assert_close(through_time, x.grad)

    sn.reset(layer)
    x.grad = None
    layer(x[:1])
    v = layer.v.detach().clone()
    sn.detach(layer)
    torch.testing.assert_close(layer.v, v, rtol=0, atol=0)
    layer(x[1:]).sum().backward()
    assert not x.grad[0].any()


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("layer", [sn.LIF, sn.CubaLIF, sn.ALIF])
def test_a_freed_graph_gives_snnfasts_own_message(layer, layout, backend):
    layer = layer(stateful=True)
    x = sequence(3, 2, 3, 2, 2).requires_grad_()
    y = x if layout == "contiguous" else x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    with snnfast.backend.use(backend):
        layer(y).sum().backward()
        with pytest.raises(RuntimeError, match=r"state v carries the graph .* call reset\(\) or"):
            layer(y)
        with torch.no_grad():
            layer(y)
        layer(y).sum().backward()
        sn.detach(layer)
        layer(x).sum().backward()
        sn.reset(layer)
        layer(x).sum().backward()


def test_a_freed_graph_before_the_layer_is_told_too():
    net = nn.Sequential(sn.Time(nn.Linear(3, 4)), sn.Delay(4, 2.0, stateful=True))
    net(torch.rand(5, 2, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="Delay: the state past carries the graph of an earlier batch"):
        net(torch.rand(5, 2, 3))


def test_a_first_state_can_be_learned():
    layer, v = sn.LIF(stateful=True), torch.full((2, 3), 0.5, requires_grad=True)
    layer.v = v
    layer(sequence(3, 2, 3)).sum().backward()
    assert (v.grad != 0).all()


def test_training_follows_inference_mode():
    layer, x = sn.LIF(stateful=True), sequence(3, 2, 3).requires_grad_()
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert x.grad.any()


def test_a_retained_graph_is_not_refused():
    layer, x = sn.LIF(stateful=True), sequence(3, 2, 3).requires_grad_()
    layer(x).sum().backward(retain_graph=True)
    layer(x).sum().backward()


@pytest.mark.parametrize("layer", STATEFUL)
def test_a_batch_of_another_shape_raises(layer):
    layer = layer(stateful=True)
    layer(sequence(4, 2, 3))
    with pytest.raises(ValueError, match=r"v has shape \[2, 3\], .* \[5, 3\]; call reset\(\)"):
        layer(sequence(4, 5, 3))
    layer.reset()
    layer(sequence(4, 5, 3))


def test_state_dict_has_state_only_when_stateful():
    net, stateless = small_net(), small_net(stateful=False)
    weights = {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert set(net.state_dict()) == weights
    for n in (net, stateless):
        n(sequence(4, 2, 3))
    assert set(stateless.state_dict()) == weights
    assert set(net.state_dict()) == weights | {"1.v", "3.v", "3.i", "4.v", "4.a", "5.v"}
    assert not any(v.requires_grad for v in net.state_dict().values())
    assert net.state_dict(keep_vars=True)["1.v"] is net[1].v


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_round_trip_into_a_fresh_net(assign):
    net, fresh, x = small_net(), small_net(), sequence(6, 2, 3)
    net(x[:3])
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True), assign=assign)
    torch.testing.assert_close(fresh(x[3:]), net(x[3:]), rtol=0, atol=0)


def test_loading_copies_the_state():
    net, fresh = small_net(), small_net()
    net(sequence(3, 2, 3))
    saved = net.state_dict()
    fresh.load_state_dict(saved)
    saved["1.v"].zero_()
    assert fresh[1].v.any()


def test_loading_replaces_a_state_and_its_graph():
    net, x = small_net(), sequence(3, 2, 3)
    net(x)
    saved = {k: v.clone() for k, v in net.state_dict().items()}
    net(x)
    net.load_state_dict(saved)
    torch.testing.assert_close(net[3].i, saved["3.i"], rtol=0, atol=0)
    assert not net[3].i.requires_grad


def test_loading_without_state_resets():
    net, fresh = small_net(), small_net()
    net(sequence(3, 2, 3))
    net.load_state_dict(fresh.state_dict())
    assert all(v is None for v in states(net).values())


def test_loading_a_state_of_another_shape_raises():
    net, other = small_net(), small_net()
    net(sequence(3, 2, 3))
    other(sequence(3, 5, 3))
    with pytest.raises(RuntimeError, match=r"saved state 1\.v has shape \[5, 4\], .* \[2, 4\]"):
        net.load_state_dict(other.state_dict())
    sn.reset(net)
    net.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        net(sequence(3, 2, 3))


def test_a_stateless_net_refuses_a_saved_state():
    net = small_net()
    net(sequence(3, 2, 3))
    with pytest.raises(RuntimeError, match=r"Unexpected key.*1\.v"):
        small_net(stateful=False).load_state_dict(net.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_deepcopy_and_pickle_take_the_state_along(copied):
    net, x = small_net(), sequence(6, 2, 3)
    net(x[:3])
    twin = copied(net)
    torch.testing.assert_close(twin(x[3:]), net(x[3:]), rtol=0, atol=0)
    assert net[1].v.grad_fn is not None
    sn.reset(twin)
    assert net[1].v is not None


def test_whole_net_through_torch_save():
    net = small_net()
    net(sequence(3, 2, 3))
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)[1].v, net[1].v, rtol=0, atol=0)


def test_state_is_no_buffer():
    net = small_net()
    net(sequence(3, 2, 3))
    assert not list(net.buffers())


def test_share_memory_and_zero_grad_work_with_state():
    net = small_net()
    net(sequence(3, 2, 3))
    sn.detach(net)
    net.share_memory()
    assert net[1].v.is_shared()
    net.zero_grad()


def test_state_follows_the_dtype_of_the_input():
    layer = sn.LIF(stateful=True)
    layer(sequence(3, 2, 3))
    assert layer(sequence(3, 2, 3).double()).dtype == torch.float64
    assert layer.v.dtype == torch.float64
    layer(sequence(3, 2, 3).bfloat16())
    assert layer.v.dtype == torch.float32


def test_a_step_without_time_is_told():
    layer = sn.LIF(stateful=True)
    layer(torch.rand(5, 2, 3))
    with pytest.raises(ValueError, match=r"\[T, B, ...\]: of one step \[B, ...\] call step\(x\)$"):
        layer(torch.rand(2, 3))
    with pytest.raises(ValueError, match=r"another shape$"):
        layer(torch.rand(5, 4, 3))
    batch_first = sn.LIF(stateful=True)
    batch_first(torch.rand(5, 2, 3))
    with pytest.raises(ValueError, match=r"of a batch-first sequence give x\.transpose\(0, 1\)$"):
        batch_first(torch.rand(2, 5, 3))


def test_a_state_that_is_a_number_is_refused():
    layer = sn.LIF(stateful=True)
    layer.v = 0.0
    with pytest.raises(TypeError, match=r"^LIF: the state v must be a tensor or None, got float"):
        layer(torch.rand(2, 3))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("make", [small_net, lambda: sn.replace(nn.Sequential(nn.Linear(3, 2), LIFNode()))])
def test_a_checkpoint_runs_again_from_rest_and_leaves_the_state(make, reentrant):
    torch.manual_seed(0)
    net, found = make(), []
    for run in (net, lambda x: checkpoint(net, x, use_reentrant=reentrant)):
        for call in range(2):  # between resets
            sn.reset(net)
            x = sequence(5, 2, 3, seed=call).requires_grad_()
            run(x).cumsum(0).sum().backward()
            found.append([x.grad, *states(net).values()])
    assert found[0][0].any()
    for plain, again in zip(found[:2], found[2:]):
        for a, b in zip(plain, again, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=0)


def test_a_checkpoint_of_calls_that_go_on_is_refused():
    net = small_net()
    for layer in (net[3], net[4], net[5]):
        layer.stateful = False
    x = sequence(5, 2, 3).requires_grad_()
    net(x)
    with pytest.raises(RuntimeError, match=r"^LIF: torch.utils.checkpoint runs the layer again.*Recomputed"):
        checkpoint(net, x, use_reentrant=False)
    assert net[1].v is not None
    sn.reset(net)  # as the error says
    checkpoint(net, x, use_reentrant=False).sum().backward()
    assert x.grad.any()
    y = checkpoint(net, x, use_reentrant=True)  # hides from the layer that gradients are wanted
    with pytest.raises(RuntimeError, match=r"^LIF: torch.utils.checkpoint runs the layer again.*use_reentrant=False"):
        y.sum().backward()


def test_a_loop_over_steps_in_a_checkpoint_is_refused():
    layer = sn.LIF(stateful=True)
    x = sequence(5, 2, 3).requires_grad_()

    def loop(x):
        return torch.stack([layer(step) for step in x.split(1)])

    with pytest.raises(RuntimeError, match=r"^LIF: torch.utils.checkpoint runs the layer again"):
        checkpoint(loop, x, use_reentrant=False)
