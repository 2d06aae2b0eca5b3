"""Which master key serves which package: open, permissioned and committee-member modes.

Source: MystenLabs/seal, crates/key-server/src/{key_server_options,master_keys}.rs.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol

import msgspec

from daas.common.errors import ConfigurationError, InvalidInput
from daas.seal.address import format_address
from daas.seal.ibe import ID_LENGTH, MasterKey
from daas.seal.server.refusal import Refusal


class KeyRing(Protocol):
    """The keys of one server process."""

    def key_of_package(self, first_package_id: bytes) -> MasterKey:
        """The master key that serves a package.

        Raises:
            Refusal: `UnsupportedPackageId`.
        """
        ...

    def key_of_service(self, service_id: bytes) -> MasterKey:
        """The master key of a KeyServer object.

        Raises:
            Refusal: `InvalidServiceId`.
        """
        ...

    def partial_public_key(self) -> bytes:
        """A committee member's partial public key, 96 bytes.

        Raises:
            Refusal: `Unsupported`: it is no member of a committee.
        """
        ...


def read_secret(text: str) -> bytes:
    """32 bytes from hexadecimal (with or without 0x) or base64, as operators keep them in the environment.

    Raises:
        ConfigurationError: `seal-secret`; the message does not repeat the text.
    """
    stripped = text.strip()
    try:
        data = bytes.fromhex(stripped.removeprefix("0x"))
    except ValueError:
        try:
            data = base64.b64decode(stripped, validate=True)
        except (binascii.Error, ValueError):
            data = b""
    if len(data) != 32:
        raise ConfigurationError("expected 32 bytes in hexadecimal or base64", reason="seal-secret")
    return data


class OpenKeys:
    """One master key for every package: whoever writes a policy may use this server."""

    def __init__(self, service_id: bytes, master_key: MasterKey) -> None:
        self._service_id = _id(service_id)
        self._master_key = master_key

    def key_of_package(self, first_package_id: bytes) -> MasterKey:  # noqa: ARG002 - every package is served alike
        """The one key."""
        return self._master_key

    def key_of_service(self, service_id: bytes) -> MasterKey:
        """The one key, under its own object id."""
        if service_id != self._service_id:
            raise Refusal("InvalidServiceId")
        return self._master_key

    def partial_public_key(self) -> bytes:
        """Refused."""
        raise Refusal("Unsupported")


class Derived(msgspec.Struct, frozen=True):
    """A client whose key is number `index` of the seed."""

    index: int


class Imported(msgspec.Struct, frozen=True):
    """A client that brought its key from another server."""

    master_key: MasterKey


class Exported(msgspec.Struct, frozen=True):
    """A client whose key number `index` was handed to another server: neither served nor derived here again."""

    index: int


class PermissionedClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client of a permissioned server: its own KeyServer object, key and packages (FIRST versions' ids)."""

    name: str
    service_id: bytes
    key: Derived | Imported | Exported
    packages: tuple[bytes, ...]


class PermissionedKeys:
    """A key for each client, served for that client's packages alone.

    Args:
        seed: 32 bytes from which keys are derived.
        clients: names, object ids and packages each once; numbers of derived and exported keys without gaps from 0.

    Raises:
        ConfigurationError: `seal-clients`.
    """

    def __init__(self, seed: bytes, clients: Sequence[PermissionedClient]) -> None:
        _check_clients(clients)
        self._by_service: dict[bytes, MasterKey] = {}
        self._by_package: dict[bytes, MasterKey] = {}
        for client in clients:
            match client.key:
                case Derived(index=index):
                    key = MasterKey.derive(seed, index)
                case Imported(master_key=master_key):
                    key = master_key
                case Exported():
                    continue
            self._by_service[client.service_id] = key
            self._by_package |= dict.fromkeys(client.packages, key)

    def key_of_package(self, first_package_id: bytes) -> MasterKey:
        """The key of the client whose package it is."""
        key = self._by_package.get(first_package_id)
        if key is None:
            raise Refusal("UnsupportedPackageId")
        return key

    def key_of_service(self, service_id: bytes) -> MasterKey:
        """The key of the client whose KeyServer object it is."""
        key = self._by_service.get(service_id)
        if key is None:
            raise Refusal("InvalidServiceId")
        return key

    def partial_public_key(self) -> bytes:
        """Refused."""
        raise Refusal("Unsupported")


class CommitteeMemberKeys:
    """A committee member's share, and during a rotation the next one.

    Args:
        share: of the present version of the committee; None where this member joins with the next.
        version: of the committee on the ledger.
        next_share: what takes over when the ledger shows the next version.

    Raises:
        ConfigurationError: `seal-share`: neither share.
    """

    def __init__(self, share: MasterKey | None, version: int, next_share: MasterKey | None = None) -> None:
        if share is None and next_share is None:
            raise ConfigurationError("a committee member needs a share", reason="seal-share")
        self._shares = {version: share, version + 1: next_share}
        self._version = version

    def advance(self, version: int) -> None:
        """Tells the version that the ledger shows. A share of a version that is over is never used again.

        Raises:
            ConfigurationError: `seal-share`: this member has no share of that version.
        """
        if version < self._version:
            return
        if self._shares.get(version) is None:
            raise ConfigurationError(f"no share of version {version} of the committee", reason="seal-share")
        self._version = version

    def key_of_package(self, first_package_id: bytes) -> MasterKey:  # noqa: ARG002 - every package is served alike
        """The share of the present version."""
        share = self._shares.get(self._version)
        if share is None:
            raise Refusal("Failure")
        return share

    def key_of_service(self, service_id: bytes) -> MasterKey:  # noqa: ARG002 - a member has no object of its own
        """Refused: a member alone can't prove possession of the committee's key."""
        raise Refusal("InvalidServiceId")

    def partial_public_key(self) -> bytes:
        """Of the present version."""
        return self.key_of_package(b"").public_key


def _check_clients(clients: Sequence[PermissionedClient]) -> None:
    names = [client.name for client in clients]
    services = [_id(client.service_id) for client in clients]
    packages = [_id(package) for client in clients for package in client.packages]
    for what, values in (("name", names), ("object id", services), ("package", [*map(format_address, packages)])):
        if len(set(values)) != len(values):
            raise ConfigurationError(f"two clients have the same {what}", reason="seal-clients")
    if any(not client.packages for client in clients if not isinstance(client.key, Exported)):
        raise ConfigurationError("a client has no package", reason="seal-clients")
    indices = sorted(client.key.index for client in clients if not isinstance(client.key, Imported))
    if indices != list(range(len(indices))):
        raise ConfigurationError("numbers of derived and exported keys must be 0, 1, ... without gaps",
                                 reason="seal-clients")  # fmt: skip


def _id(value: bytes) -> bytes:
    if len(value) != ID_LENGTH:
        raise InvalidInput(f"an object id has {ID_LENGTH} bytes, not {len(value)}", reason="seal-object-id")
    return value
