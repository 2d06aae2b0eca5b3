"""Lets tests import the history that the evidence library's tests share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "libs" / "evidence" / "tests" / "support"))
