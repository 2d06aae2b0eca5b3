"""The programs of infra/nitro as modules: they are files that stand alone, outside every package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

NITRO = Path(__file__).resolve().parents[2] / "infra/nitro"


def nitro_part(name: str) -> ModuleType:
    """One of them, loaded once."""
    known = f"nitro_{name}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, NITRO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    spec.loader.exec_module(module)
    return module
