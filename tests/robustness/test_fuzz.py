"""The fuzzer finds nothing in the package, and finds planted faults of every kind."""

import copy
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

if sys.platform != "linux":
    pytest.skip("the fuzzer forks and limits memory as Linux does", allow_module_level=True)
sys.path.insert(0, str(ROOT / "scripts"))
import fuzz  # noqa: E402
from fuzzing import foreign, networks  # noqa: E402
from fuzzing.draw import Finding  # noqa: E402

from snnfast import nn, ops  # noqa: E402
from snnfast.ops import diehl_cook as cook  # noqa: E402


def found(capfd, *arguments):
    """Return exit code and output."""
    code = fuzz.main(["--workers", "1", *map(str, arguments)])
    return code, capfd.readouterr().out


def plant(monkeypatch, fault):
    """Make every case of an op call ``fault`` instead."""
    monkeypatch.setitem(fuzz.TARGETS, "ops", (fault, 1))


def test_nothing_is_found(capfd):
    code, text = found(capfd, "--cases", 20, "--seed", 3)
    assert code == 0, text
    assert "seed 3, 20 cases, 0 findings" in text


def test_a_crash_is_found_and_the_rest_goes_on(capfd, monkeypatch):
    """Fault 1: an empty tensor's null pointer."""

    def fault(d):
        if d.chance(0.3):
            os.kill(os.getpid(), signal.SIGSEGV)

    plant(monkeypatch, fault)
    code, text = found(capfd, "--cases", 20, "--only", "ops")
    assert code == 1
    assert 2 <= text.count("crash: SIGSEGV") < 20
    assert "20 cases" in text
    case = next(line for line in text.splitlines() if "crash" in line).split(":")[0].split()[1]
    again = found(capfd, "--case", case, "--only", "ops")
    assert again[0] == 1
    assert f"--seed 0 --case {case} --only ops" in again[1]


def test_a_case_without_end_is_found(capfd, monkeypatch):
    plant(monkeypatch, lambda d: time.sleep(600) if d.chance(0.3) else None)
    code, text = found(capfd, "--cases", 4, "--only", "ops", "--timeout", 3)
    assert code == 1
    assert "no end within 3 s" in text


def test_a_write_outside_of_a_tensor_is_found(capfd, monkeypatch):
    """Fault 2: padding that fires writes behind its tensor."""

    def fault(d):
        t = d.guarded(torch.zeros(3, 4))
        t.as_strided((1,), (1,), t.storage_offset() + t.numel()).zero_()

    plant(monkeypatch, fault)
    code, text = found(capfd, "--cases", 1, "--only", "ops")
    assert code == 1
    assert "written outside of a tensor" in text


def test_weights_that_change_without_their_version_are_found(monkeypatch):
    """Fault 7."""
    monkeypatch.setattr(cook, "raise_versions", lambda *tensors: None)
    found = kinds(120, "without its version")
    assert "ops: diehl_cook_" in found


def test_other_bits_and_other_errors_are_found(monkeypatch):
    real = ops.lif

    def lif(x, *args, **kwargs):
        if x.dim() == 3:
            raise KeyError("x")
        result = real(x, *args, **kwargs)
        return (result[0] * 2, *result[1:])

    lif.__signature__ = real.__signature__
    monkeypatch.setattr(ops, "lif", lif)
    text = "\n".join(fuzz.run_case(0, case, ("ops",)) for case in range(80))
    for words in ("the result differs", "KeyError"):
        assert words in text


def kinds(cases, word=""):
    """Return target and op of the findings of the first cases of seed 0."""
    findings = [fuzz.run_case(0, case, ("ops",)) for case in range(cases)]
    return {":".join(f.split(":")[:2]) for f in findings if f and word in f}


def targeted(target, cases, seed=5):
    """Return the findings of the first cases of one target."""
    return [f for case in range(cases) if (f := fuzz.run_case(seed, case, (target,)))]


@pytest.mark.parametrize("target", ["float64", "transforms", "lengths", "learners", "nir", "libraries"])
def test_a_target_finds_nothing_in_what_there_is(target):
    assert not targeted(target, 12)


def test_a_neuron_unlike_its_equation_is_found(monkeypatch):
    """The gain of a time constant that is a tensor, in float32, where the reference has the same error."""
    real = ops.lif

    def lif(x, *args, **kwargs):
        return real(x * 1.01, *args, **kwargs)

    monkeypatch.setattr(ops, "lif", lif)
    found = targeted("float64", 150)
    assert found
    assert all(f.startswith("float64: lif in torch.float") for f in found)


def test_a_wrong_gradient_of_a_delay_is_found(monkeypatch):
    real = ops.delay
    monkeypatch.setattr(ops, "delay", lambda x, d, past: real(x, d.detach() + (d - d.detach()) * 1.1, past))
    found = targeted("float64", 60)
    assert found
    assert all("delay in torch.float" in f and "gradient of d" in f for f in found)


def test_a_tied_weight_that_is_folded_is_found(monkeypatch):
    from snnfast.nn import graph

    monkeypatch.setattr(graph, "_form", lambda node: True)
    assert any("fuse" in f for f in targeted("transforms", 150))


def test_a_forward_that_is_dropped_is_found(monkeypatch):
    from snnfast.nn import accelerate, fuse

    for module in (sys.modules[fuse.__module__], sys.modules[accelerate.__module__]):
        monkeypatch.setattr(module, "refuse_own_forward", lambda function, net: None)
    assert any("a forward of its own was taken" in f for f in targeted("transforms", 60))


def test_a_copy_that_learns_otherwise_is_found(monkeypatch):
    if not foreign.LIBRARIES:
        pytest.skip("no other library is installed")

    def spoiled(net):
        net.register_full_backward_hook(lambda module, grad_in, grad_out: tuple(g * 1.01 for g in grad_in))
        return net

    monkeypatch.setattr(foreign, "TRANSFORMS", {"replace": (nn.replace, spoiled)})
    found = targeted("libraries", 12)
    assert found
    assert all("gradient of" in f for f in found)


def test_padding_that_leaks_is_found(monkeypatch):
    from snnfast.nn import readout

    monkeypatch.setattr(readout, "_mask", lambda op, x, lengths: torch.ones_like(x[..., :1], dtype=torch.bool))
    assert any("with padding" in f for f in targeted("lengths", 40))


def test_a_trace_that_is_not_kept_is_found(monkeypatch):
    from snnfast.learning.eprop import _Layer

    run = _Layer.run

    def forgetful(layer, x):
        layer.carry()
        layer.traces.clear()
        return run(layer, x)

    monkeypatch.setattr(_Layer, "run", forgetful)
    found = targeted("learners", 12)
    assert found
    assert all("EProp: in parts of" in f for f in found)


def test_a_tie_of_two_orders_of_a_sum_is_no_finding():
    """A membrane at the threshold may fire or not, by rounding; one a thousandth off must not differ."""
    network = networks.snnfast.convert(
        torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU(), torch.nn.Linear(1, 1)).eval(),
        [torch.rand(4, 2)],
        progress=False,
        reset="hard",
        initial_membrane=0.0,
    )
    images = torch.tensor([[0.5, 0.25]])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    for above, good in ((2**-23, True), (1e-3, False)):
        network.update_threshold([0.75])
        other = copy.deepcopy(network)
        other.update_threshold([0.75 * (1 + above)])  # slightly above the sum of the kernels
        got = other(images, 7)
        assert not torch.allclose(got, network(images, 7), 1e-3)
        if good:
            networks.same_but_for_ties(network, images, got)
        else:
            with pytest.raises(Finding, match="unlike the reference"):
                networks.same_but_for_ties(network, images, got)
