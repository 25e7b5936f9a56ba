"""Random steps against a plain loop in PyTorch, with numbers outside that change."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from fuzzing import steps
from fuzzing.draw import Draw


@pytest.mark.parametrize("part", range(4))
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
def test_outputs_and_gradients_are_those_of_a_plain_loop(part):
    """``python scripts/fuzz.py --only steps`` draws more."""
    refused = [bool(steps.try_step(Draw(f"{part}:{case}"))) for case in range(15)]
    assert sum(refused) <= 5
