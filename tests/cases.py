"""Many cases in one test, because separate tests of milliseconds cost more than they test."""

import itertools
import traceback

import pytest


def check_each(cases, check):
    """Call ``check(case)`` for every case; report all failures by name."""
    cases = list(cases)
    assert cases
    failures = []
    for case in cases:
        try:
            check(case)
        except Exception:
            failures.append(f"--- {case_name(case)}\n{traceback.format_exc()}")
    if failures:
        pytest.fail(f"{len(failures)} of {len(cases)} cases\n" + "\n".join(failures), pytrace=False)


def pairwise(*axes):
    """Return a few rows of the product of the axes, in which every two values of different axes meet."""
    rows = list(itertools.product(*axes))
    pairs = [set(itertools.combinations(enumerate(map(id, row)), 2)) for row in rows]
    missing, chosen = set().union(*pairs), []
    while missing:
        best = max(range(len(rows)), key=lambda k: len(pairs[k] & missing))
        missing -= pairs[best]
        chosen.append(rows[best])
    return chosen


def case_name(value):
    return "+".join(value) if isinstance(value, list) else getattr(value, "__name__", str(value))
