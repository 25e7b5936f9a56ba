"""A sparse recurrent network of 20,000 neurons, trained by surrogate gradients; a matrix would not fit.

Handwritten digits come row by row, and only the last step is read: what came before, the recurrent connections must
keep. With 20 synapses a neuron the network learns 400,000 recurrent weights. A matrix has 400 million, and with its
gradient and the state of Adam it takes 6.4 GB.

python examples/sparse_recurrent.py
python examples/sparse_recurrent.py --neurons 200000 --indegree 10 --batch-size 1 --max-steps 1 --epochs 1
"""

import argparse
import resource
import time

import torch
from torch import nn

import snnfast
from snnfast import connect
from snnfast.nn import ALIF, LI, Last, SparseLinear, SparseRecurrent, Time

ROWS, REPEATS = 8, 3  # of an image; steps that each row is shown


def rows(images):
    """Return images ``[B, 1, 8, 8]`` as ``[T, B, 8]``."""
    return images.flatten(0, 1).transpose(0, 1).repeat_interleave(REPEATS, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=20_000)
    parser.add_argument("--indegree", type=int, default=20, help="recurrent synapses to each neuron")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    N = opt.neurons
    before = connect.fixed_indegree(8, N, indegree=4, multapses=False, seed=opt.seed)
    c = connect.fixed_indegree(N, indegree=opt.indegree, seed=opt.seed + 1)
    net = nn.Sequential(
        SparseLinear(before),
        SparseRecurrent(ALIF(tau=10.0, tau_adapt=30.0, decay_input=False), c),
        *(Time(nn.Linear(N, 10)), LI(tau=5.0), Last()),
    )
    print(f"{c}; weights {len(c) * 4 / 1e6:.1f} MB, as a matrix {N * N * 4 / 1e6:.0f} MB")
    train, test = (snnfast.data.as_tensors(snnfast.data.load("digits", split=s)) for s in ("train+val", "test"))
    optimizer = torch.optim.Adam(net.parameters(), lr=opt.lr)

    for epoch in range(1, opt.epochs + 1):
        begin, right, total = time.perf_counter(), 0, 0
        order = torch.randperm(len(train[1])).split(opt.batch_size)
        for chosen in order[: opt.max_steps]:
            images, labels = train[0][chosen], train[1][chosen]
            logits = net(rows(images))
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
            right += (logits.argmax(1) == labels).sum().item()
            total += len(labels)
        seconds = time.perf_counter() - begin
        with torch.no_grad():
            batches = zip(*(values.split(opt.batch_size) for values in test))
            found = [net(rows(images)).argmax(1) == labels for images, labels in list(batches)[: opt.max_steps]]
        print(
            f"epoch {epoch}: training {100 * right / total:.1f} %, test {100 * torch.cat(found).float().mean():.1f} %, "
            f"{seconds:.1f} s"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"largest memory of the process {peak:.0f} MB")


if __name__ == "__main__":
    main()
