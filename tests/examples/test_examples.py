"""Every example runs for two steps, as a program of its own."""

import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from interpreter import program, python

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_STEPS = {
    "bpstdp.py": ["--epochs", "1", "--max-steps", "2"],
    "export_c.py": ["--epochs", "1", "--max-steps", "2"],
    "first_hour.py": [],
    "fsdp.py": ["--epochs", "1", "--max-steps", "2"],
    "lightning_module.py": ["--epochs", "1", "--max-steps", "2"],
    "quantize.py": ["--epochs", "1", "--max-steps", "2"],
    "r_stdp.py": ["--trials", "2"],
    "rewiring.py": ["--epochs", "1", "--max-steps", "2", "--every", "1"],
    "sparse_recurrent.py": ["--epochs", "1", "--max-steps", "2", "--neurons", "200"],
    "spikeprop.py": ["--epochs", "1", "--max-steps", "2"],
    "stbp.py": ["--epochs", "1", "--max-steps", "2"],
}


@pytest.mark.parametrize("script", sorted(TWO_STEPS))
def test_example_runs_two_steps(script, tmp_path):
    if script.startswith("lightning") and find_spec("lightning") is None:
        pytest.skip("needs lightning")
    done = python(program(EXAMPLES / script), *TWO_STEPS[script], cwd=tmp_path)
    assert re.search(r"\b(epoch|trial) 1\b", done.stdout)


def test_the_three_scripts_of_stdp_follow_each_other(tmp_path):
    words = {"train": "epoch 1", "assign": "neurons of each class", "infer": "proportion vote"}
    arguments = {"train": ["--epochs", "1", "--max-images", "200"], "assign": ["--images", "200"]}
    for step, said in words.items():
        script = program(EXAMPLES / f"stdp_{step}.py")
        assert said in python(script, *arguments.get(step, []), cwd=tmp_path).stdout
    assert (tmp_path / "receptive_fields.png").exists()


def test_own_neurons_are_timed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["own_neurons.py", "--num-steps", "2"])
    runpy.run_path(str(EXAMPLES / "own_neurons.py"), run_name="__main__")
    shown = capsys.readouterr().out
    for name in ("klif", "two_compartments", "resonator", "gated"):
        assert re.search(rf"\b{name}: kernel +[\d.]+ ms, loop +[\d.]+ ms", shown)


@pytest.mark.parametrize("method", ["act_based", "spikenorm"])
def test_a_network_is_trained_and_converted(method, tmp_path, monkeypatch, capsys):
    """In this process: a new one would need longer to import than the scripts to run."""
    monkeypatch.chdir(tmp_path)
    how = ["--method", method, "--max-steps", "2", "--batch-size", "20"]
    how += ["--epochs", "1", "--num-steps", "5"]
    for step, said in {"train": "epoch 1: training", "infer": "40 images"}.items():
        monkeypatch.setattr(sys, "argv", ["conversion.py", step, *how])
        runpy.run_path(str(EXAMPLES / "conversion.py"), run_name="__main__")
        assert said in capsys.readouterr().out
    assert (tmp_path / "conversion.pt").exists()


def test_every_example_of_ours_is_listed():
    assert set(TWO_STEPS) <= {path.name for path in EXAMPLES.glob("*.py")}
