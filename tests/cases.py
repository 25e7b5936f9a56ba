"""Many cases in one test: of milliseconds, as tests of their own they would cost more than what they test."""

import traceback

import pytest


def check_each(cases, check):
    """``check(*case)``, or ``check(case)`` of what is no tuple, for every case; tells all that fail, by name."""
    cases = list(cases)
    assert cases
    failures = []
    for case in cases:
        values = case if type(case) is tuple else (case,)
        try:
            check(*values)
        except Exception:
            failures.append(f"--- {'-'.join(map(case_name, values))}\n{traceback.format_exc()}")
    if failures:
        pytest.fail(f"{len(failures)} of {len(cases)} cases\n" + "\n".join(failures), pytrace=False)


def case_name(value):
    return "+".join(value) if isinstance(value, list) else getattr(value, "__name__", str(value))
