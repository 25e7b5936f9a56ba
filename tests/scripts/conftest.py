"""The modules of ``scripts``."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.syspath_prepend(ROOT)
    import stages

    return stages


@pytest.fixture
def job(stages, tmp_path):
    from stages.job import Job

    return lambda limit=60.0: Job("smoke", tmp_path, True, limit)
