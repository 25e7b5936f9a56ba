"""Signatures of neurons and their layers for editors and mypy are those generated from the equations."""

import ast
import runpy
from pathlib import Path

import pytest

import snnfast

SCRIPT = Path(__file__).parents[2] / "scripts/stubs.py"


@pytest.mark.parametrize("folder", ["ops", "nn"])
def test_stubs_are_as_their_equations(folder):
    written = (Path(snnfast.__file__).parent / folder / "neurons.pyi").read_text()
    assert runpy.run_path(str(SCRIPT))["stubs"]()[f"{folder}/neurons.pyi"] == written, "run python scripts/stubs.py"


def test_stubs_have_every_argument_of_a_call():
    """An independent check: a call takes the names in the text."""
    tree = ast.parse((Path(snnfast.__file__).parent / "nn/neurons.pyi").read_text())
    (layer,) = (node for node in tree.body if getattr(node, "name", "") == "ALIF")
    arguments = next(node for node in layer.body if isinstance(node, ast.FunctionDef)).args
    names = [a.arg for a in (*arguments.args[1:], *arguments.kwonlyargs)]
    values = {name: None for name in names if name.startswith(("tau", "decay_a", "v_re"))}
    neurons = snnfast.nn.ALIF(**values, decay=0.5, beta=0.1, decay_input=False, strict=True)
    assert {"tau", "tau_adapt", "decay_adapt", "v_reset", "v_rest"} == set(values)
    assert (neurons.decay, neurons.beta, neurons.strict) == (0.5, 0.1, True)
    with pytest.raises(TypeError, match=r"^ALIF: there is no argument 'alpha'"):
        snnfast.nn.ALIF(alpha=1.0)
