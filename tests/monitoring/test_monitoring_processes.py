"""Two processes of DistributedDataParallel have the counts of a single process."""

import json

import torch
from interpreter import Interpreter

import snnfast
from snnfast.papers import Wu2018

PROCESS = """
import json, sys, torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import snnfast
from snnfast.model import Wu2018

torch.set_num_threads(1)
rank = int(sys.argv[1])
import torch._dynamo  # else it keeps the group to the end
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
net = DistributedDataParallel(Wu2018(3, input_shape=(1, 8, 8), encoding="direct"))
images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
with snnfast.monitor(net) as watching:
    net(images[rank::2]).sum().backward()
print(json.dumps(watching.reduce().activity().as_dict()))
with snnfast.monitor(net) as watching, torch.no_grad():
    if rank:  # the other one has had no samples
        net.module(images)
print(json.dumps(watching.reduce().activity().as_dict()))
del net, watching
distributed.destroy_process_group()
"""


def test_two_processes_count_as_one(tmp_path):
    processes = [Interpreter(PROCESS, rank, tmp_path / "store", GLOO_SOCKET_IFNAME="lo") for rank in (0, 1)]
    outputs = [p.wait().stdout for p in processes]
    torch.manual_seed(0)
    net = Wu2018(3, input_shape=(1, 8, 8), encoding="direct")
    with snnfast.monitor(net) as watching:
        net(torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    alone = json.loads(json.dumps(watching.activity().as_dict()))
    assert alone["samples"] == 6
    for out in outputs:
        assert [json.loads(line) for line in out.splitlines()] == [alone, alone]
