"""The directory of Seal vectors: the project's own copy, or the one that DAAS_SEAL_VECTORS names."""

import json
import os
from pathlib import Path
from typing import Any

VECTORS = Path(
    os.environ.get("DAAS_SEAL_VECTORS") or Path(__file__).resolve().parents[4] / "tests" / "vectors" / "seal"
)


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def files() -> list[str]:
    return sorted(path.stem for path in VECTORS.glob("*.json"))


def address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x").rjust(64, "0"))
