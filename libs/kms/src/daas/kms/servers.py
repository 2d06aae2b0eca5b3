"""The key servers that a plugin asks, as a file: addresses, and public keys as the ledger shows them."""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from daas.common.errors import ConfigurationError
from daas.common.messages import ObjectId
from daas.seal import KeyServer, parse_address

_FILE_BYTES_MAX: Final = 256 * 1024


class ServerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key server; see `daas.seal.KeyServer`. `public_key` is hexadecimal, 96 bytes."""

    object_id: ObjectId
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]+$")]
    public_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{192}$")]
    weight: Annotated[int, msgspec.Meta(ge=1, le=255)] = 1
    name: str = ""
    committee: bool = False
    api_key_header: str = ""
    api_key: str = ""

    def __repr__(self) -> str:
        """Without the key of an interface."""
        return f"ServerEntry({self.name or self.object_id}, {self.url})"

    def known(self) -> KeyServer:
        """As clients take it."""
        return KeyServer(
            object_id=parse_address(self.object_id),
            url=self.url,
            public_key=bytes.fromhex(self.public_key),
            weight=self.weight,
            name=self.name,
            committee=self.committee,
            api_key_header=self.api_key_header,
            api_key=self.api_key,
        )


class KeyServers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The servers, and how many shares open what is sealed from now on."""

    threshold: Annotated[int, msgspec.Meta(ge=1, le=255)]
    servers: Annotated[tuple[ServerEntry, ...], msgspec.Meta(min_length=1, max_length=64)]

    def known(self) -> list[KeyServer]:
        """As clients take them."""
        return [entry.known() for entry in self.servers]


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
