"""The CPU kernels of every instruction set give the same bits."""

import hashlib
import re
import types

import pytest
import torch
from backends import PRESENT
from interpreter import program, python

import snnfast


def digest():
    """The instruction set in use, and a checksum of the outputs and gradients of all samples."""
    from samples import gradients, neurons, samples

    from snnfast import backend, ops

    checksum = hashlib.sha256()
    for sample in [s for op in neurons() for s in samples(op)[::4]]:
        arguments = sample.arguments()
        for t in (*sample.op(**arguments), *gradients(sample.op, arguments).values()):
            if t is not None:
                checksum.update(t.detach().flatten().view(torch.uint8).numpy().tobytes())
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        w, x, grad = (
            torch.randn(s, generator=g).to(dtype) for s in ((80, 150), (40, 150), (40, 80))
        )
        w.requires_grad_()
        for spikes in ((x > 1).to(dtype), x * (x > 1)):
            y = ops.spike_linear(spikes, w, method="events")
            for t in (y.detach(), *torch.autograd.grad(y, w, grad)):
                checksum.update(t.flatten().view(torch.uint8).numpy().tobytes())
    return backend.extension.cpu_isa(), checksum.hexdigest()


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
def test_every_instruction_set_gives_the_same_bits():
    from snnfast import backend

    available = backend.extension.cpu_isas().split()
    assert available[-1] == backend.extension.cpu_isa()
    # One after another: the tests have two cores.
    found = {}
    for isa in available:
        used, found[isa] = python(program(__file__), SNNFAST_CPU_ISA=isa).stdout.split()
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
    print(*digest())
