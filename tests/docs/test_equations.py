"""Equations of docstrings and pages as HTML."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
DOCS = runpy.run_path(str(Path(__file__).parents[2] / "docs/equations.py"))
is_equation, table, typeset = DOCS["is_equation"], DOCS["table"], DOCS["typeset"]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("v_rest", "<i>v</i><sub>rest</sub>"),
        ("h[t-1]", "<i>h</i><sub><i>t</i>−1</sub>"),
        ("tau_syn", "<i>τ</i><sub>syn</sub>"),
        ("w[o, i]", "<i>w</i><sub><i>o</i>, <i>i</i></sub>"),
        ("v̄_seq[t]", "<i>v̄</i><sub>seq, <i>t</i></sub>"),
        ("decay >= 0", "decay ≥ 0"),
        ("dx + dtau", "<i>d</i><i>x</i> + <i>d</i><i>τ</i>"),
        ("e^(-s/tau)", "<i>e</i><sup>−<i>s</i>/<i>τ</i></sup>"),
        ("(w - 1)^mu", "(<i>w</i> − 1)<sup><i>μ</i></sup>"),
        ("sum_i w[i]", "Σ<sub><i>i</i></sub> <i>w</i><sub><i>i</i></sub>"),
        ("sum over i, k of w", "Σ<sub><i>i</i>, <i>k</i></sub> <i>w</i>"),
        ("sum over j >= 0 of w", "Σ<sub><i>j</i> ≥ 0</sub> <i>w</i>"),
        ("sum_{k != j} s", "Σ<sub><i>k</i> ≠ <i>j</i></sub> <i>s</i>"),
        ("1 if a < b", "1 if <i>a</i> &lt; <i>b</i>"),
    ],
)
def test_typeset(text, html):
    assert typeset(text) == html


def test_a_block_is_aligned_at_its_signs():
    lines = table("h[t] = x[t]      charge\nv    <- 0\n= -1             where x[t] > 0").split("<tr>")[1:]
    cells = [line.split("<td>")[1:] for line in lines]
    assert [len(row) for row in cells] == [3, 2, 3]
    assert cells[0][2].startswith("charge<")
    assert cells[1][1].startswith("← 0<")
    assert cells[2][0] == "</td>"
    assert cells[2][2].startswith("where <i>x</i>")


def test_code_is_no_equation():
    assert is_equation("h[t] = decay v[t-1] + x[t]")
    assert not is_equation("y = layer(x)")
    assert not is_equation(">>> y = x y")
    assert not is_equation("conv 32 - LIF - fc 10")
