"""Makes the helpers of daas.seal's own tests importable by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "libs" / "seal" / "tests" / "support"))
