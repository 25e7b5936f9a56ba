"""Train a network whose parameters are sharded over several processes, by FSDP2.

    torchrun --nproc-per-node 2 examples/fsdp.py --epochs 3

Without torchrun there is one process. Each takes its share of every batch; on GPUs with NCCL, on CPUs with Gloo.
"""

import argparse
import os

import torch
import torch._dynamo  # if the optimizer imports it after the group exists, it keeps the group to the end
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from snnfast import data
from snnfast.nn import LI, RLIF, Last, ParametricLIF, Time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    alone = {"store": distributed.HashStore(), "rank": 0, "world_size": 1}
    started = {} if distributed.is_torchelastic_launched() else alone
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", **started)
    rank, size = distributed.get_rank(), distributed.get_world_size()

    torch.manual_seed(0)  # the same weights and the same order everywhere
    images, labels = data.as_tensors(data.load("digits", split="train"))
    net = nn.Sequential(
        Time(nn.Flatten(), nn.Linear(64, 100)),
        ParametricLIF(2.0, decay_input=False),
        Time(nn.Linear(100, 100)),
        RLIF(100, decay_input=False),
        Time(nn.Linear(100, 10)),
        LI(tau=4.0),
        Last(),
    ).to(device)
    mesh = init_device_mesh(device, (size,))
    for layer in (net[0], net[2], net[3]):  # parameters are gathered layer by layer, when needed
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)

    for epoch in range(1, options.epochs + 1):
        for chosen in torch.randperm(len(images)).split(32)[: options.max_steps]:
            mine = chosen[rank::size]
            x = images[mine].to(device).expand(options.num_steps, -1, -1, -1, -1)
            loss = cross_entropy(net(x), labels[mine].to(device))
            optimizer.zero_grad()
            loss.backward()  # gradients are averaged over the processes
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
