"""The file that names the key servers of a plugin: addresses, and public keys as the ledger shows them."""

from pathlib import Path
from typing import Final

import msgspec

from daas.common.errors import ConfigurationError
from daas.secrets import KeyServers, KnownKeyServer

__all__ = ["KeyServers", "KnownKeyServer", "load"]

_FILE_BYTES_MAX: Final = 256 * 1024


def load(path: Path) -> KeyServers:
    """Reads a file.

    Raises:
        ConfigurationError: `key-servers`.
    """
    try:
        data = path.read_bytes()
        if len(data) > _FILE_BYTES_MAX:
            raise ConfigurationError(f"key servers {path}: the file is too large", reason="key-servers")
        found = msgspec.json.decode(data, type=KeyServers)
    except OSError as error:
        raise ConfigurationError(f"key servers {path}: {error.strerror}", reason="key-servers") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"key servers {path}: {error}", reason="key-servers") from None
    if found.threshold > sum(entry.weight for entry in found.servers):
        raise ConfigurationError(f"key servers {path}: the threshold is above all shares", reason="key-servers")
    return found
