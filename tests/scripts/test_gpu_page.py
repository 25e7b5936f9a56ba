"""The page that ``scripts/gpu.py`` writes."""

import json
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measured(implementation, **seconds):
    row = {"benchmark": "lif", "implementation": implementation, "shape": [10, 1000]}
    row |= {"dtype": "float32", "device": "cuda", "seconds": seconds}
    return {"state": "done", "seconds": 1.0, "result": row}


@pytest.fixture
def results():
    failed = {
        "state": "failed",
        "error": "not finished",
        "result": {"failed": {"f.py": {"t": "e"}}},
    }
    return {
        "build": {
            "rehearsed": False,
            "parts": {"environment": {"state": "done", "result": {"gpu": "A card"}}},
        },
        "tests": {"rehearsed": False, "parts": {"ops": failed}},
        "neurons": {
            "rehearsed": False,
            "parts": {
                "copy": measured("clone", copy=1e-3),
                "lif": measured("snnfast", forward=2e-3, backward=2e-3),
            },
        },
    }


def test_the_page_says_what_was_reached_and_what_failed(stages, results, tmp_path):
    from stages import page

    (tmp_path / "results.json").write_text(json.dumps(results))
    docs = tmp_path / "gpu.md"
    docs.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    made = page.write(tmp_path, docs)
    assert "| lif | forward | [10, 1000] | float32 | 2 | 0 | 50 % | - |" in made
    assert "| lif | backward | [10, 1000] | float32 | 2 | 0 | 75 % | - |" in made
    assert "| tests | f.py | 1 tests, t |" in made
    assert "**A card**" in made
    assert docs.read_text() == f"before\n{page.BEGIN}\n{made}{page.END}\nafter\n"


def test_predictions_are_those_of_shape_dtype_pass_and_card(stages):
    from stages import page

    from benchmarks import budget

    def predicted(gpu="NVIDIA H100 80GB HBM3", multiprocessors=132, **changed):
        row = {"benchmark": "lif", "shape": [100, 1 << 17], "dtype": "bfloat16", "pass": "backward"}
        row |= changed
        moved = page.MOVED[row["pass"]] * page.ITEM[row["dtype"]] * math.prod(row["shape"])
        here = {"gpu": gpu, "multiprocessors": multiprocessors}
        build = {"parts": {"environment": {"state": "done", "result": here}}}
        return page.predicted({"build": build}, {**row, "seconds": 0.5, "rate": moved / 0.5})

    card = budget.CARDS["H100"]
    code = budget.taken(budget.kept(), "lif", "backward", "bfloat16", 1 << 17)
    assert predicted() == pytest.approx(budget.share(code, 100, 1 << 17, card))
    changes = [
        {},
        {"shape": [500, 1 << 13]},
        {"dtype": "float32"},
        {"pass": "forward", "shape": [500, 1 << 13]},
        {"benchmark": "alif"},
        {"gpu": "NVIDIA B200", "multiprocessors": 148},
    ]
    assert len({predicted(**change) for change in changes}) == len(changes)
    both = predicted(**{"pass": "forward+backward"})
    assert predicted() < both < predicted(**{"pass": "forward"})
    # No kernel, no card, and one that only has a name in common.
    assert predicted(dtype="float16") is predicted(gpu="A card") is None
    assert predicted(multiprocessors=114) is None


def test_the_page_says_where_auto_takes_the_slower_device(stages, results):
    from stages import page

    def row(benchmark, device, seconds):
        row = measured("snnfast", step=seconds)
        row["result"] |= {"benchmark": benchmark, "device": device}
        return row

    assert page.against_auto(results) == ""
    slower = {"a": row("stdp", "cpu", 1e-3), "b": row("stdp", "cuda", 2e-3)}
    results["plasticity"] = {"rehearsed": False, "parts": slower}
    assert "The GPU was faster: in none of them." in page.against_auto(results)
    slower |= {"c": row("bp_stdp", "cpu", 4e-3), "d": row("bp_stdp", "cuda", 2e-3)}
    slower["e"] = row("bp_stdp", "cuda, no clusters", 1e-3)
    assert "faster: bp_stdp [10, 1000] step (2 times)." in page.against_auto(results)
    assert page.against_auto(results) in page.text(results)


def test_a_rehearsal_is_not_documented(stages, results, tmp_path):
    from stages import page

    results["neurons"]["rehearsed"] = True
    (tmp_path / "results.json").write_text(json.dumps(results))
    docs = tmp_path / "gpu.md"
    docs.write_text(f"{page.BEGIN}{page.END}")
    with pytest.raises(ValueError, match="this was a rehearsal"):
        page.write(tmp_path, docs)
    assert docs.read_text() == f"{page.BEGIN}{page.END}"


def test_the_documentation_has_a_place_for_the_page(stages):
    from stages import page

    text = (ROOT / "docs/gpu.md").read_text()
    assert text.count(page.BEGIN) == text.count(page.END) == 1


def test_the_table_of_modes_lists_every_op(stages):
    from stages.ops import examples

    _, _, table = (ROOT / "docs/gpu.md").read_text().partition("| op | graph |")
    first = [line.split("|")[1] for line in table.partition("\n\n")[0].split("\n")[2:]]
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(examples("cpu"))
