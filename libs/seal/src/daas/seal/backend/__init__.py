"""The BLS12-381 backend of this process: the fastest that is installed and that passes the official test constant.

`DAAS_SEAL_BACKEND` (`blst` or `arkworks`) asks for one by name; one that is missing or fails its test stops the import.
"""

import importlib
import os
from typing import Final

from daas.common.errors import ConfigurationError
from daas.seal.backend.protocol import Backend
from daas.seal.backend.selftest import self_test

BACKENDS: Final = {
    "blst": ("daas.seal.backend.blst", "Blst"),
    "arkworks": ("daas.seal.backend.arkworks", "Arkworks"),
}


def load(name: str) -> Backend:
    """One backend by name, tested.

    Raises:
        ConfigurationError: `seal-backend`: unknown, not installed, or it computes something else.
    """
    if name not in BACKENDS:
        raise ConfigurationError(f"the BLS12-381 backend is one of {', '.join(BACKENDS)}, not {name!r}",
                                 reason="seal-backend")  # fmt: skip
    module, attribute = BACKENDS[name]
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        raise ConfigurationError(f"backend {name} is not installed: {error}", reason="seal-backend") from None
    self_test(backend)
    return backend


def _choose() -> Backend:
    asked = os.environ.get("DAAS_SEAL_BACKEND")
    if asked:
        return load(asked)
    missing = []
    for name in BACKENDS:
        try:
            importlib.import_module(BACKENDS[name][0])
        except ImportError as error:
            missing.append(str(error))
            continue
        # A backend that is there but computes something else is a reason to stop, not to try the next.
        return load(name)
    raise ConfigurationError(f"no BLS12-381 backend is installed: {'; '.join(missing)}", reason="seal-backend")


BACKEND: Final[Backend] = _choose()

__all__ = ["BACKEND", "BACKENDS", "Backend", "load"]
