"""Operations of products and of recurrent weights against counts by hand."""

import pytest
import torch
from monitor_cases import brute_force, hooks, same
from torch import nn

import snnfast
from snnfast.nn import LI, LIF, RLIF, CubaLI, CubaLIF, Delay, Recurrent, SpikeConv2d, SpikeLinear, Time

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(7, 5), (7,)),
        (nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 6)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
        (nn.Conv3d(2, 3, 2, dilation=2), (2, 4, 5, 4)),
        (nn.ConvTranspose2d(3, 2, 3, stride=2), (3, 4, 4)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_operations_are_neurobenchs(layer, shape):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape, generator=generator) < 0.3] = 0
    x = (torch.rand(4, 3, *shape, generator=generator) < 0.4).float()
    net = nn.Sequential(Time(layer))
    with snnfast.monitor(net) as watching:
        net(x)
        net(x * 0.5)
    (found,) = watching.activity().products
    folded = x.flatten(0, 1)
    assert watching.samples == 6
    assert found.accumulates * 6 == pytest.approx(brute_force(layer, folded))
    assert found.multiply_accumulates * 6 == pytest.approx(brute_force(layer, folded))
    with torch.no_grad():
        layer.weight.fill_(1.0)
    assert found.dense * 6 == 2 * brute_force(layer, torch.ones_like(folded))


@pytest.mark.parametrize("layer", [LI(), CubaLI(), Delay(4, 2.0)], ids=lambda v: type(v).__name__)
def test_layers_that_do_not_fire_say_what_the_batch_is(layer):
    net = nn.Sequential(layer, nn.Linear(4, 2))
    with snnfast.monitor(net, membranes=3) as watching:
        net(torch.ones(5, 2, 4))
    assert watching.samples == 2
    assert watching.activity().products[0].dense == 5 * 4 * 2
    expected = {} if isinstance(layer, Delay) else {"0": layer(torch.ones(5, 2, 4))[:, 0, :3]}
    assert watching.membranes.keys() == expected.keys()
    for name, v in expected.items():
        same(watching.membranes[name], v)


@pytest.mark.parametrize("parts", [(9,), (0, 2, 1, 6), (1,) * 9], ids=["whole", "parts", "steps"])
@pytest.mark.parametrize("delay", [None, [0.0, 0.999, 3.0, 4.5, 0.0]])
@pytest.mark.parametrize("self_connections", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recurrent_weights_are_counted_where_spikes_arrive(dtype, delay, self_connections, parts):
    torch.manual_seed(0)
    delay = None if delay is None else torch.tensor(delay)
    lif = LIF(stateful=len(parts) > 1)
    net = Recurrent(lif, 5, self_connections=self_connections, delay=delay)
    x = torch.rand(9, 3, 5).to(dtype) * 4
    with snnfast.monitor(net, membranes=2) as watching:
        spikes = torch.cat([net(part) for part in x.split(parts)]).detach()
    (neurons,), (product,) = watching.activity().neurons, watching.activity().products
    assert (neurons.kind, neurons.neurons) == ("Recurrent", 5)
    samples = 3 * len(parts)  # of each call
    assert neurons.spikes == spikes.sum() / samples > 0
    same(watching.spikes["Recurrent"].to(dtype), spikes[9 - parts[-1] :, 0])
    # By hand: the arriving spikes of each step, and the weights that they meet.
    late = torch.zeros(5) if delay is None else delay
    count = single = 0
    for t in range(1, 9):
        for b in range(3):
            for j in range(5):
                whole, part = int(late[j]), float(late[j]) % 1

                def sent(step, b=b, j=j):
                    return float(spikes[step, b, j]) if 0 <= step < 9 else 0.0

                r = (1 - part) * sent(t - 1 - whole) + part * sent(t - 2 - whole)
                count += (r != 0) * int((net.weight[:, j] != 0).sum())
                single += r not in (0.0, 1.0)
    assert product.accumulates + product.multiply_accumulates == pytest.approx(count / samples)
    assert (product.multiply_accumulates > 0) == (single > 0)
    # Membranes are those of the layer; results keep every bit.
    net.reset()
    net.neuron.return_v_seq = True
    again, v_seq = net(x)
    same(again, spikes)
    same(watching.membranes["Recurrent"], v_seq[9 - parts[-1] :, 0, :2])


def test_products_by_events_count_as_dense_ones():
    torch.manual_seed(0)
    x = (torch.rand(6, 2, 2, 8, 8) < 0.1).float()
    counts = []
    for conv, linear in ((nn.Conv2d, nn.Linear), (SpikeConv2d, SpikeLinear)):
        torch.manual_seed(1)
        net = nn.Sequential(
            Time(conv(2, 3, 3, padding=1)), LIF(decay_input=False), Time(nn.Flatten(), linear(192, 20)),
            RLIF(20), linear(20, 4), Recurrent(CubaLIF(), 4),
        )  # fmt: skip
        with torch.no_grad():  # makes all layers fire
            for product in (net[0].layer, net[2].layer[1], net[4]):
                product.weight.abs_().mul_(4)
        with torch.no_grad(), snnfast.monitor(net) as watching:
            watched = net(x)
        with torch.no_grad():
            same(net(x), watched)
        assert hooks(net) == 0
        activity = watching.activity().as_dict()
        rows = [[v for v in row.values() if not isinstance(v, str)] for row in activity["products"]]
        counts.append(rows)
    assert len(counts[0]) == 5
    assert all(row[0] > 0 for row in counts[0])
    assert counts[0] == counts[1]
