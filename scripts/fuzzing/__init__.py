"""Cases of ``scripts/fuzz.py``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # for every_op, the list of calls
