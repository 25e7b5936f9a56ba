"""Every example runs for two steps, as a program of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_STEPS = {
    "r_stdp.py": ["--trials", "2"],
    "spikeprop.py": ["--epochs", "1", "--max-steps", "2"],
    "stbp.py": ["--epochs", "1", "--max-steps", "2"],
}


@pytest.mark.parametrize("script", sorted(TWO_STEPS))
def test_example_runs_two_steps(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *TWO_STEPS[script]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b(epoch|trial) 1\b", done.stdout)


def test_every_example_of_ours_is_listed():
    assert set(TWO_STEPS) <= {path.name for path in EXAMPLES.glob("*.py")}
