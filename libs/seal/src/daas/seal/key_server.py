"""KeyServer objects on the ledger: who a key server is, where it answers, under which public key.

Source: MystenLabs/seal, move/seal/sources/key_server.move. The object holds a range of versions; each version's data is
a dynamic field keyed by its number (1 or 2).
"""

from typing import Final

import msgspec

from daas.common import bcs
from daas.common.errors import DecodeError
from daas.seal.backend import BACKEND

#: Boneh-Franklin on BLS12-381: the one type of key there is.
_KEY_TYPE: Final = 0
_INDEPENDENT, _COMMITTEE = 0, 1
SUPPORTED_VERSIONS: Final = (2, 1)


class KeyServerObject(msgspec.Struct, frozen=True):
    """The object itself: its id (32 bytes) and the versions its data exists in."""

    object_id: bytes
    first_version: int
    last_version: int

    @property
    def version(self) -> int:
        """The newest version that this library reads.

        Raises:
            DecodeError: `key-server-version`.
        """
        for version in SUPPORTED_VERSIONS:
            if self.first_version <= version <= self.last_version:
                return version
        raise DecodeError(
            f"expected a key server of version 1 or 2, not {self.first_version} to {self.last_version}",
            reason="key-server-version",
        )

    @classmethod
    def decode(cls, data: bytes) -> "KeyServerObject":
        """BCS {id, first version u64, last version u64}."""
        reader = bcs.Reader(data)
        value = cls(reader.address(), reader.u64(), reader.u64())
        reader.end()
        return value


class PartialKeyServer(msgspec.Struct, frozen=True):
    """A member of a committee; `partial_public_key` has 96 bytes."""

    name: str
    url: str
    partial_public_key: bytes
    party_id: int


class Committee(msgspec.Struct, frozen=True):
    """Members that answer as one server through an aggregator; `version` counts its rotations."""

    version: int
    threshold: int
    members: tuple[PartialKeyServer, ...]


class KeyServerData(msgspec.Struct, frozen=True, kw_only=True):
    """One version's data. `url` is None for a committee: its aggregator is not on the ledger."""

    name: str
    public_key: bytes
    url: str | None
    committee: Committee | None = None

    @classmethod
    def decode(cls, data: bytes, version: int) -> "KeyServerData":
        """Reads the data of a version, 1 or 2.

        Raises:
            DecodeError: `key-server-*`, `bcs-*` or `seal-point-g2`.
        """
        reader = bcs.Reader(data)
        name = reader.string()
        url: str | None = None
        committee: Committee | None = None
        if version == 1:
            url = reader.string()
        elif version != SUPPORTED_VERSIONS[0]:
            raise DecodeError(f"expected version 1 or 2, not {version}", reason="key-server-version")
        if reader.u8() != _KEY_TYPE:
            raise DecodeError("the key server's keys are of another type", reason="key-server-type")
        public_key = reader.bytes_()
        if version != 1:
            kind = reader.uleb128()
            if kind == _INDEPENDENT:
                url = reader.string()
            elif kind == _COMMITTEE:
                committee = _read_committee(reader)
            else:
                raise DecodeError(f"unknown type of key server {kind}", reason="key-server-type")
        reader.end()
        BACKEND.g2_decode(public_key)
        return cls(name=name, public_key=public_key, url=url, committee=committee)


def _read_committee(reader: bcs.Reader) -> Committee:
    version, threshold = reader.u32(), reader.u16()
    members = reader.vector(lambda: PartialKeyServer(reader.string(), reader.string(), reader.bytes_(), reader.u16()))
    names = {member.name for member in members}
    in_order = all(member.party_id == place for place, member in enumerate(members))
    if not 1 < threshold <= len(members) or len(names) != len(members) or not in_order:
        raise DecodeError("a committee needs a threshold above 1, members in order and different names",
                          reason="key-server-committee")  # fmt: skip
    for member in members:
        BACKEND.g2_decode(member.partial_public_key)
    return Committee(version, threshold, tuple(members))
