"""Processes that share a batch draw the random numbers of a single process for the whole batch."""

import pytest
import torch
from interpreter import Interpreter

TWO = """
import sys
import torch
import torch._dynamo  # as snnfast.processes.together does
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint

from snnfast import encoder
from snnfast.nn import Time
from snnfast.ports.sequences import OverTime
from snnfast.processes import Processes
from snnfast.train import Run, fit
from snnfast.processes.whole_batch import shared

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
processes = Processes(torch.device("cpu"))


class Over(nn.Module):
    "A layer over 6 steps, in Time or with a batch as the second dimension."

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.expand(6, *x.shape))


def same(model, x):
    torch.manual_seed(5)
    want, after = model(x), torch.get_rng_state()
    torch.manual_seed(5)
    kinds = [type(m) for m in model.modules()]
    with shared(model, processes, len(x)) as mine:
        torch.rand(rank)  # what else is drawn moves nothing
        got = model(x[mine])
    assert torch.equal(after, torch.get_rng_state()), model
    assert kinds == [type(m) for m in model.modules()]
    want = want[mine] if len(want) == len(x) else want[:, mine]
    assert torch.equal(got, want), (model, x.stride())


for B in (2, 5, 8):
    x = torch.rand(B, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    for format in (torch.contiguous_format, torch.channels_last):
        y = x.to(memory_format=format)
        for kind in (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout):
            same(kind(0.4), y)
        same(Over(Time(nn.MaxPool2d(1), nn.Dropout(0.4), nn.Sequential(nn.Flatten(), nn.Dropout(0.4)))), y)
    same(nn.Dropout1d(0.4), x[..., 0])
    same(Over(nn.Dropout(0.4)), x.flatten(1))
    same(Over(Time(nn.Dropout(0.4))), x.flatten(1)[:, : B // 2])  # as many features as images
    same(Over(OverTime(nn.Dropout(0.4))), x.flatten(1)[:, : B // 2])
    parts = nn.Unflatten(1, (3, 8)), nn.Flatten(0, 1), nn.Dropout(0.4), nn.Unflatten(0, (-1, 3))
    same(nn.Sequential(*parts), x.flatten(1))
    for encode in (encoder.BernoulliEncoder, encoder.PoissonEncoder, encoder.RegularEncoder):
        same(encode(9), x)

# Functional dropout is the process's own.
torch.manual_seed(5)
with shared(nn.Identity(), processes, 8) as mine:
    own = nn.functional.dropout(torch.ones(64))
both = processes.gather(own)
assert not torch.equal(*both)

# An activation checkpoint draws once more what it drew.
net = nn.Sequential(nn.Linear(5, 5), nn.Dropout(), nn.Linear(5, 5), nn.Dropout()).double()
x = torch.rand(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(run, mine=slice(None)):
    net.zero_grad()
    run(x[mine]).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


torch.manual_seed(0)
for p in net.parameters():
    nn.init.normal_(p)
torch.manual_seed(2)
want = gradients(net)
for run in (net, lambda x: checkpoint(net, x, use_reentrant=False)):
    torch.manual_seed(2)
    with shared(net, processes, 7) as mine:
        got = gradients(run, mine)
    distributed.all_reduce(got)
    torch.testing.assert_close(got, want)

# Processes start from the first one's numbers, and those that part are noticed.
data = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).double(), torch.zeros(6, dtype=torch.long)
torch.manual_seed(rank)


def train(augment):
    run = Run(net, torch.optim.SGD(net.parameters(), 0.1))
    loss = nn.functional.cross_entropy
    fit(run, data, None, epochs=1, batch_size=3, loss=loss, augment=augment, processes=processes, echo=None,
        progress=False)


train(None)
try:
    train(lambda x: x + torch.rand(rank + 1).sum())
except RuntimeError as error:
    print(error)
distributed.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo")
def test_two_processes_draw_what_one_draws(tmp_path):
    processes = [
        Interpreter(TWO, rank, tmp_path / "store", OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo") for rank in "01"
    ]
    for process in processes:
        assert "processes drew different random numbers in epoch 1/1" in process.wait().stdout
