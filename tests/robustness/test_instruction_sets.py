"""The CPU kernels of every instruction set give the same bits."""

import hashlib
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from backends import PRESENT
from interpreter import program, python

import snnfast


def results():
    """Yield outputs and gradients of every op; sizes are not multiples of a vector."""
    sys.path.append(str(Path(__file__).parents[1] / "ops"))
    from every_op import examples, launches
    from recurrent_cases import KERNELS, Recurrent, case
    from samples import gradients, neurons, rich, samples
    from stdp_cases import RULES, sample, with_reward

    from snnfast import ops

    for neuron_sample in [neuron_sample for op in neurons() for neuron_sample in samples(op)[::4]]:
        arguments = neuron_sample.arguments()
        yield from neuron_sample.op(**arguments)
        yield from gradients(neuron_sample.op, arguments).values()
    for name, example in {**examples("cpu", neurons=77), **launches("cpu", small=True)}.items():
        # Without gradients from PyTorch's sums, which depend on the threads.
        yield from example.run()[: 3 if name in ("spike_linear", "spike_conv2d") else None]
    for name, rule in RULES.items():
        w, pre, post, reward = sample((9, 3, 45, 19), torch.float32)
        for update in ("step", "sequence"):
            ops.stdp_(w, pre, post, rule=rule, update=update, **with_reward(name, reward))
        yield w
    for op in KERNELS:
        for dtype in (torch.float32, torch.float64):
            arguments = case(op, rich(op), (20, 9, 37), dtype, 1, "real")
            yield from Recurrent(op)(**arguments)
            yield from gradients(Recurrent(op), arguments).values()
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        w, x, grad = (torch.randn(s, generator=g).to(dtype) for s in ((80, 150), (40, 150), (40, 80)))
        w.requires_grad_()
        for spikes in ((x > 1).to(dtype), x * (x > 1)):
            y = ops.spike_linear(spikes, w, method="events")
            yield from (y, *torch.autograd.grad(y, w, grad))


def digest(threads):
    """Return the instruction set in use, and a checksum of all results with this number of threads."""
    torch.set_num_threads(threads)
    checksum = hashlib.sha256()
    for t in results():
        if t is not None:
            checksum.update(t.detach().flatten().view(torch.uint8).numpy().tobytes())
    return snnfast.backend.extension.cpu_isa(), checksum.hexdigest()


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits():
    extension = snnfast.backend.extension
    available = extension.cpu_isas().split()
    assert available[-1] == extension.cpu_isa()
    # In turn: the tests have two cores.
    found = {}
    for isa, threads in [*((isa, 1) for isa in available), (available[-1], 3)]:
        done = python(program(__file__), threads, SNNFAST_CPU_ISA=isa)
        used, found[isa, threads] = done.stdout.split()
        assert used == isa
    assert len(set(found.values())) == 1, found


def test_kernels_for_a_newer_processor_do_not_run(monkeypatch):
    from snnfast import backend

    older = types.SimpleNamespace(cpu_isas=lambda: "", cpu_isa=lambda: "base")
    monkeypatch.setattr(snnfast, "_C", older, raising=False)
    extension, why = backend._load()
    assert extension is None
    assert re.search(r"newer processor than this one \(base\).*pip install .*BEST_ISA=avx512", why)


if __name__ == "__main__":
    print(*digest(int(sys.argv[1])))
