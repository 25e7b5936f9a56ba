"""For pytest, ``-p stages.record``: writes how each test ended, at once: a suite that is stopped leaves something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.passed):
        return  # a worker reports to the process that started it
    error = str(report.longrepr).strip().splitlines()[-1:] if report.failed else []
    result = {"test": report.nodeid, "outcome": report.outcome, "error": "".join(error)[:300]}
    with Path(os.environ["SNNFAST_TEST_RECORD"]).open("a") as file:
        file.write(json.dumps(result) + "\n")
