"""Many cases in one test, because separate tests of milliseconds cost more than they test."""

import inspect
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


def in_one_test(names, rows):
    """Run a test over the rows of a table, as one test: pytest alone takes two milliseconds for each.

    ``names`` and ``rows`` are those of ``pytest.mark.parametrize``; fixtures are made once for all rows.
    """
    names = [names] if isinstance(names, str) else list(names)

    def decorate(test):
        def run(**fixtures):
            def check(row):
                test(**fixtures, **dict(zip(names, row if len(names) > 1 else [row], strict=True)))

            check_each(rows, check)

        signature = inspect.signature(test)
        fixtures = [p for name, p in signature.parameters.items() if name not in names]
        run.__signature__ = signature.replace(parameters=fixtures)
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.pytestmark = getattr(test, "pytestmark", [])
        return run

    return decorate


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
