"""Rewiring: a layer of few synapses moves them, while it learns, to where they help.

Every some batches the weakest synapses are dropped and as many new ones are made, with weight 0: between random neurons
(as in SET, Mocanu et al. 2018, and DEEP R, Bellec et al. 2018), or where the gradient of a synapse would be largest
(RigL, Evci et al. 2020). Synapses that stay keep their weights and their state in the optimizer.

python examples/rewiring.py
python examples/rewiring.py --grow random
python examples/rewiring.py --grow none
"""

import argparse

import torch
from torch import nn

import snnfast
from snnfast import connect
from snnfast.nn import LIF, Rate, SparseLinear, Time

NUM_STEPS = 16


def absent(c, generator):
    """Return presynaptic and postsynaptic neuron of every pair without a synapse, in random order."""
    pre, post = c.edges()
    free = torch.ones(c.n_pre, c.n_post, dtype=torch.bool)
    free[pre, post] = False
    pairs = free.nonzero()
    return pairs[torch.randperm(len(pairs), generator=generator)].T


def gradients(net, layer, pairs, loss):
    """Return the gradient that a synapse of weight 0 would have between each of ``pairs``."""
    c = connect.from_edges(*pairs, layer.connectivity.n_pre, layer.connectivity.n_post)
    candidates = SparseLinear(c, weight=nn.Parameter(torch.zeros(len(c))))
    hook = layer.register_forward_hook(lambda _, x, y: y + candidates(x[0]))
    (found,) = torch.autograd.grad(loss(net), candidates.weight)
    hook.remove()
    pre, post = c.edges()
    matrix = torch.zeros(c.n_pre, c.n_post)
    matrix[pre, post] = found
    return matrix[tuple(pairs)]


def rewired(layer, optimizer, share, pairs):
    """Return a layer with synapses between the first of ``pairs`` in place of a share, the weakest, of its own."""
    old, c = layer.weight, layer.connectivity
    count = int(share * len(c))
    stays = old.detach().abs().argsort()[count:].sort().values
    edges = (torch.cat([mine[stays], new[:count]]) for mine, new in zip(c.edges(), pairs))
    grown = connect.from_edges(*edges, c.n_pre, c.n_post)

    def moved(values):
        return grown.arrange(torch.cat([values[stays], values.new_zeros(len(grown) - len(stays))]))

    weight = nn.Parameter(moved(old.detach()))
    for group in optimizer.param_groups:
        group["params"] = [weight if parameter is old else parameter for parameter in group["params"]]
    state = optimizer.state.pop(old)
    optimizer.state[weight] = {k: moved(v) if v.shape == old.shape else v for k, v in state.items()}
    return SparseLinear(grown, weight=weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grow", default="gradient", choices=("gradient", "random", "none"))
    parser.add_argument("--indegree", type=int, default=2, help="synapses a hidden neuron has at first")
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.2, help="of the synapses that move at first; falls to 0")
    parser.add_argument("--every", type=int, default=20, help="batches between two rewirings")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)
    generator = torch.Generator().manual_seed(opt.seed)

    images, labels = snnfast.data.as_tensors(snnfast.data.load("digits", split="train+val"))
    test_images, test_labels = snnfast.data.as_tensors(snnfast.data.load("digits", split="test"))
    c = connect.fixed_indegree(64, opt.hidden, indegree=opt.indegree, multapses=False, seed=opt.seed)
    net = nn.Sequential(SparseLinear(c), LIF(tau=2.0, decay_input=False), Time(nn.Linear(opt.hidden, 10)), Rate())
    optimizer = torch.optim.Adam(net.parameters(), lr=opt.lr)
    print(f"{len(c)} synapses of {64 * opt.hidden} pairs")

    def spikes(images):
        return (torch.rand(NUM_STEPS, len(images), 64) < images.flatten(1)).float()

    batches = len(labels) // opt.batch_size if opt.max_steps is None else opt.max_steps
    for epoch in range(1, opt.epochs + 1):
        order = torch.randperm(len(labels)).split(opt.batch_size)
        for step, chosen in enumerate(order[:batches], start=(epoch - 1) * batches + 1):
            x, target = spikes(images[chosen]), labels[chosen]

            def loss(net, x=x, target=target):
                return nn.functional.cross_entropy(net(x), target)

            optimizer.zero_grad()
            loss(net).backward()
            optimizer.step()
            progress = step / (opt.epochs * batches)
            if opt.grow != "none" and step % opt.every == 0 and progress < 0.75:
                pairs = absent(net[0].connectivity, generator)
                if opt.grow == "gradient":
                    pairs = pairs[:, gradients(net, net[0], pairs, loss).abs().argsort(descending=True)]
                net[0] = rewired(net[0], optimizer, opt.share * (1 - progress / 0.75), pairs)
        with torch.no_grad():
            accuracy = (net(spikes(test_images)).argmax(1) == test_labels).float().mean()
        print(f"epoch {epoch}: test {100 * accuracy:.1f} %, {len(net[0].connectivity)} synapses")

    degree = net[0].connectivity.out_degree().view(8, 8)
    print("synapses from each pixel:", *(" ".join(f"{n:3d}" for n in row) for row in degree.tolist()), sep="\n")


if __name__ == "__main__":
    main()
