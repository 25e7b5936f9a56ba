"""Neurons with sparse connections for the tests: arguments, and the comparison of kernels with the reference."""

import torch
from backends import fetched, placed
from samples import Sample, assert_equal, assert_gradients_close, gradients, outputs_and_gradients

from snnfast import connect, ops, reference
from snnfast.check import state_dtype


class Sparse:
    """A neuron with sparse connections, as a function of its arguments, which are on the CPU like the results."""

    def __init__(self, op, connectivity, run=ops.sparse_recurrent):
        self.op, self.connectivity, self.run = op, connectivity, run

    def __call__(self, **arguments):
        there = arguments if self.run is reference.sparse_recurrent else placed(arguments)
        return fetched(self.run(connectivity=self.connectivity, neuron=self.op.name, **there))


def connected(H, kind="a delay a synapse", degree=3):
    """Return random connections among ``H`` neurons."""
    c = connect.fixed_outdegree(H, outdegree=min(degree, H), multapses=kind == "two synapses a pair", seed=H)
    generator = torch.Generator().manual_seed(H)
    if kind == "one delay":
        return c.with_delay(3)
    if kind == "a delay a neuron":
        return c.with_delay(torch.randint(1, 4, (H,), generator=generator))
    if kind == "a delay a synapse":
        return c.with_delay(torch.randint(1, 6, (len(c),), generator=generator))
    return c if kind != "none" else connect.fixed_total(H, total=0)


def case(op, variant="plain", shape=(35, 3, 7), dtype=torch.float64, past=0, weights="synapse", c=None):
    """Return connections and arguments: those of a neuron, weights, and spikes before the first step."""
    c = connected(shape[-1]) if c is None else c
    sample = Sample(op, variant if variant in op.variants else "plain", shape, dtype)
    generator, arguments = sample.generator(), sample.arguments("cpu")
    sizes = {"synapse": (len(c),), "neuron": (c.n_pre,), "number": ()}[weights]
    arguments["weight"] = torch.randn(sizes, generator=generator, dtype=torch.float64).to(state_dtype(dtype))
    if past:
        arguments["past"] = (torch.rand(past, *shape[1:], generator=generator) < 0.3).to(dtype)
    return c, arguments


def agree(op, c, arguments):
    """Assert that kernels and reference agree: outputs bit for bit, gradients to rounding."""
    kernel = Sparse(op, c)
    outputs, wanted = outputs_and_gradients(Sparse(op, c, reference.sparse_recurrent), arguments)
    assert_equal(kernel(**arguments), list(outputs))
    assert_gradients_close(gradients(kernel, arguments), wanted)
