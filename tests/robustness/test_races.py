"""``scripts/races.py``: the parts that need no build under ThreadSanitizer. CI runs a share of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def races(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import races

    return races


def test_every_barrier_of_a_kernel_is_planted(races):
    """This includes barriers that count votes, each in a separate line."""
    barriers = {(file, line) for file, _, line in races.meetings(ROOT / "csrc")}
    found = set()
    for file in [*(ROOT / "csrc/cuda").glob("*.cu"), *(ROOT / "csrc/cuda").glob("*.cuh")]:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = line.partition("//")[0]
            calls = re.findall(r"__(?:sync|threadfence|barrier)\w*\(", code)
            assert len(calls) <= 1, (file.name, number)
            found |= {(f"cuda/{file.name}", number) for _ in calls}
    assert barriers == found


def test_what_may_be_missing_is_there(races):
    barriers = {(file, k) for file, k, _ in races.meetings(ROOT / "csrc")}
    assert set(races.SPARE) <= barriers


def test_constants_that_are_made_small_are_there(races):
    for file, constants in races.SMALL.items():
        text = races.shrunk(file)  # asserts it
        assert all(f"{name} = {value};" in text for name, value in constants.items())
