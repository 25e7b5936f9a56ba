"""Mutants by operators: scripts/mutants.py."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
MUTANTS = runpy.run_path(str(ROOT / "scripts/mutants.py"))

PYTHON = '''"""A string of 1 + 1."""
from a import b  # 2 - 2


def f(x: "1 + 1" = 3) -> "4 * 4":
    if x is not None and x >= -0.5:
        raise ValueError(f"{x + 1}")
    return x * 0
'''
CPP = """#define N 1 + 1
static_assert(sizeof(int) == 4);
template <int K = 1 + 1>
C f(C x) {  // 1 - 1
  return x < 2 ? v[0] : a && b;
}
"""


def changes(path, text):
    return [(m.old, m.new) for m in MUTANTS["mutants"](path, text)]


def test_operators_and_numbers_of_code_change_and_nothing_else():
    assert changes("a.py", PYTHON) == [
        *[("is not", "is"), ("and", "or"), (">=", ">"), ("*", "/")],
        *[("3", "(3 + 1)"), ("0.5", "(0.5 + 1)"), ("0", "1")],
    ]
    assert changes("a.h", CPP) == [("<", "<="), ("&&", "||"), ("2", "(2 + 1)"), ("0", "1")]


def test_a_mutant_names_its_line():
    assert MUTANTS["mutants"]("a.h", CPP)[0].name == "a.h:5: < => <= in return x < 2 ? v[0] : a && b;"


def test_each_file_has_tests_that_exist():
    for room in ("csrc/core", "snnfast/reference", "snnfast/compiler"):
        for path in (ROOT / room).glob("*.*"):
            tests = MUTANTS["tests_of"](str(path.relative_to(ROOT)), ROOT)
            assert tests
            assert all((ROOT / test).exists() for test in tests)


def test_tests_are_found_by_whole_names_and_where_they_stand():
    exp, plasticity = (MUTANTS["tests_of"](f"csrc/core/{name}.h", ROOT) for name in ("exp", "plasticity"))
    assert "tests/ops/test_eif.py" in exp
    assert not [test for test in exp if "export" in test]
    assert {"tests/ops/test_stdp.py", "tests/ops/test_stdp_by_hand.py"} <= set(plasticity)
    assert not [test for test in plasticity if "lif" in test]
