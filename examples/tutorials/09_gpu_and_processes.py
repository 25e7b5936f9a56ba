"""
On a GPU, and on several
========================

A network of this package moves to a GPU like any other, and PyTorch's tools train it in several
processes. This tutorial runs on a GPU if there is one, else on the CPU.
"""

import inspect
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from snnfast import backend, ops
from snnfast.data import digits
from snnfast.nn import LIF, Rate, Time

# %%
# The device
# ----------
# Layers follow their input: on the CPU they run CPU kernels, on CUDA the CUDA kernels, with the same
# equations. ``SpikeLinear``, ``SpikeConv2d`` and the pooling in ``Time`` have kernels only for the CPU;
# on CUDA they are PyTorch's. ``backend.explain`` says which runs, and why.

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
net = nn.Sequential(
    Time(nn.Flatten(), nn.Linear(64, 128)),
    LIF(decay_input=False),
    Time(nn.Linear(128, 10)),
    LIF(decay_input=False),
    Rate(),
).to(device)
images, labels = (t.to(device) for t in digits("train").tensors)
print(backend.explain(net, images))

# %%
# There is no silent fallback. Without a kernel for its device a layer runs in plain PyTorch, with a
# warning that says why. ``backend.use("cuda")``, or ``SNNFAST_BACKEND=cuda`` in the environment, makes
# that an error. ``snnfast info`` lists the graphics card, its driver, and what was built for it.
#
# The same seed draws the same spikes on every device:

spikes = ops.poisson(images, num_steps=20, seed=7)
print(f"{spikes.device}: {int(spikes.sum())} spikes")

# %%
# Low precision
# -------------
# Under autocast the linear layers compute in bfloat16, and spikes are bfloat16, too. Membranes stay in
# float32, so that small inputs still add up.

with torch.autocast(device, torch.bfloat16):
    rates = net(images[:64].expand(8, -1, -1, -1, -1))
print(rates.dtype, net[1](torch.ones(8, 1, 1, device=device, dtype=torch.bfloat16)).dtype)

# %%
# Fewer launches
# --------------
# On a GPU a layer of neurons is one launch for all steps. A CUDA graph also removes the launch
# overhead between small layers; every op can be captured:
#
# .. code-block:: python
#
#     for _ in range(3):  # warm up
#         net(x)
#     graph = torch.cuda.CUDAGraph()
#     with torch.cuda.graph(graph):
#         y = net(x)
#     graph.replay()  # with the current values of x; writes y again
#
# ``torch.compile(net, mode="reduce-overhead")`` makes such a graph for you. :doc:`/gpu` lists what
# each op can do, and what has been measured.
#
# Several processes
# -----------------
# ``torchrun`` starts the same program several times. Each takes its share of every batch, and
# ``DistributedDataParallel`` averages the gradients: over NCCL between GPUs, over Gloo between CPUs.
# The network needs no change. This is a whole program:


def train(file: str) -> None:
    import json
    import os
    from pathlib import Path

    import torch
    import torch._dynamo  # if the optimizer imports it after the group exists, it keeps the group to the end
    from torch import distributed, nn

    from snnfast.data import digits
    from snnfast.nn import LIF, Rate, Time

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()

    torch.manual_seed(0)  # the same weights and the same order everywhere
    images, labels = (t.to(device) for t in digits("train").tensors)
    net = nn.Sequential(
        Time(nn.Flatten(), nn.Linear(64, 128)),
        LIF(decay_input=False),
        Time(nn.Linear(128, 10)),
        LIF(decay_input=False),
        Rate(),
    ).to(device)
    net = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(6):
        for batch in torch.randperm(len(images)).split(64)[:-1]:
            mine = batch[rank::size]
            rates = net(images[mine].expand(8, -1, -1, -1, -1))
            loss = nn.functional.cross_entropy(4 * rates, labels[mine])
            optimizer.zero_grad()
            loss.backward()  # the gradients are averaged here
            optimizer.step()
            distributed.all_reduce(loss.detach())
            losses.append(loss.item() / size)
    if rank == 0:
        Path(file).write_text(json.dumps(losses))
    del net  # before the group that it uses
    distributed.destroy_process_group()


# %%
# Written to a file, it runs with ``torchrun --nproc-per-node 2 train.py``; with a process for each GPU
# where there are several.


def run(processes: int) -> list[float]:
    """Run the program in several processes, and return its losses."""
    with tempfile.TemporaryDirectory() as folder:
        program, result = Path(folder, "train.py"), Path(folder, "losses.json")
        program.write_text(f"{inspect.getsource(train)}\ntrain({str(result)!r})\n")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*torchrun, f"--nproc-per-node={processes}", str(program)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(result.read_text())


several = max(torch.cuda.device_count(), 1) if device == "cuda" else 2
single, more = run(1), run(several)
print(f"the losses differ by at most {max(abs(a - b) for a, b in zip(single, more, strict=True)):.1e}")

figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(single, label="one process", linewidth=4, color="lightgray")
axis.plot(more, label=f"{several} processes", linewidth=1, color="crimson")
axis.set(xlabel="step of the optimizer", ylabel="loss")
axis.legend()
figure.tight_layout()

# %%
# Both give the same curve: the mean gradient of two halves of a batch equals that of the whole, except
# for rounding.
#
# By command
# ----------
# The commands do all of this for you, including checkpoints and results:
#
# .. code-block:: shell
#
#     torchrun --nproc-per-node 2 -m snnfast train stbp --dataset digits
#     torchrun --nproc-per-node 4 -m snnfast train stdp --dataset digits --seeds 8
#
# In the first the processes train one network together. In the second they train eight networks,
# each process its own. :doc:`/processes` has the details, and ``examples/fsdp.py`` shards the parameters.
