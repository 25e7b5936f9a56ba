"""The fuzzer finds nothing in the package, and finds planted faults of every kind."""

import faulthandler
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
import every_op  # noqa: E402
import fuzz  # noqa: E402
from fuzzing import foreign  # noqa: E402
from fuzzing import ops as op_cases  # noqa: E402

from snnfast import nn, ops  # noqa: E402
from snnfast.ops import diehl_cook as cook  # noqa: E402


def found(capfd, *arguments):
    """Return exit code and output."""
    code = fuzz.main(["--workers", "1", *map(str, arguments)])
    return code, capfd.readouterr().out


def plant(monkeypatch, fault):
    """Make every case of an op call ``fault`` instead."""
    monkeypatch.setitem(fuzz.TARGETS, "ops", (fault, 1))


def only(monkeypatch, name):
    """Draw only the first call of an op."""
    calls = {name: op_cases.calls()[name][:1]}
    monkeypatch.setattr(op_cases, "calls", lambda: calls)


def test_nothing_is_found(capfd):
    code, text = found(capfd, "--cases", 20, "--seed", 3, "--only", "ops", "raw")
    assert code == 0, text
    assert "seed 3, 20 cases, 0 findings" in text


def test_a_crash_is_found_and_the_rest_goes_on(capfd, monkeypatch):
    """Fault 1: an empty tensor's null pointer."""

    def fault(d):
        if d.chance(0.3):
            faulthandler.disable()  # pytest's would print its stack among the results
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
    only(monkeypatch, "diehl_cook_")
    monkeypatch.setattr(cook, "raise_versions", lambda *tensors: None)
    assert any("without its version" in finding for finding in targeted("ops", 10))


def test_other_bits_and_other_errors_are_found(monkeypatch):
    only(monkeypatch, "lif")
    real = ops.lif

    def lif(x, *args, **kwargs):
        if x.dim() == 3:
            raise KeyError("x")
        result = real(x, *args, **kwargs)
        return (result[0] * 2, *result[1:])

    lif.__signature__ = real.__signature__
    monkeypatch.setattr(ops, "lif", lif)
    text = "\n".join(targeted("ops", 20))
    for words in ("the result differs", "KeyError"):
        assert words in text


def targeted(target, cases, seed=5):
    """Return the findings of the first cases of one target."""
    return [f for case in range(cases) if (f := fuzz.run_case(seed, case, (target,)))]


def test_networks_of_other_libraries_find_nothing():
    assert not targeted("libraries", 12)


def test_every_op_of_the_list_of_calls_is_tried():
    listed = {name.split(" ")[0].strip(",") for name in every_op.calls("cpu")}
    assert set(op_cases.calls()) == listed


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
