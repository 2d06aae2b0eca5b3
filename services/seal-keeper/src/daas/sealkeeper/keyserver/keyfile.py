"""Files that hold a key server's master key: JSON, readable by their owner alone, never overwritten."""

import os
import secrets
import stat
from pathlib import Path
from typing import Annotated, Final, Never

import msgspec

from daas.common.errors import ConfigurationError, InvalidInput
from daas.common.messages import ObjectId
from daas.seal import MasterKey, format_address, parse_address
from daas.seal.ibe import random_scalar
from daas.seal.server import OpenKeys

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BYTES_MAX: Final = 4096


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    object_id: ObjectId
    master_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]

    def __repr__(self) -> str:
        return f"_KeyFile({self.object_id})"


class ServerKey:
    """One server's object id (32 bytes) and master key (32 bytes). Nothing here prints or pickles the key.

    Raises:
        ConfigurationError: `key-file`: the key is no scalar of the group.
    """

    __slots__ = ("keys", "object_id", "public_key")

    def __init__(self, object_id: bytes, secret: bytes) -> None:
        try:
            master = MasterKey.from_bytes(secret)
        except InvalidInput:
            raise ConfigurationError("the master key is no scalar of the group", reason="key-file") from None
        self.object_id = object_id
        self.public_key = master.public_key
        self.keys = OpenKeys(object_id, master)

    def __repr__(self) -> str:
        return f"ServerKey({format_address(self.object_id)})"

    def __reduce__(self) -> Never:
        raise TypeError("a master key does not leave its process")


def read_key_file(path: Path) -> ServerKey:
    """The key that a file holds.

    Raises:
        ConfigurationError: `key-file`: it can't be read, others may read it, or it is no key file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"key file {path}: {error.strerror}", reason="key-file") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(_BYTES_MAX + 1)
    if mode & _OTHERS:
        raise ConfigurationError(
            f"key file {path} has mode {stat.S_IMODE(mode):04o}; it must be 0600", reason="key-file"
        )
    try:
        content = msgspec.json.decode(data, type=_KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError):  # its text could quote the key
        raise ConfigurationError(f"key file {path} holds no object_id and master_key", reason="key-file") from None
    return ServerKey(parse_address(content.object_id), bytes.fromhex(content.master_key))


def make_key_file(path: Path, object_id: bytes | None = None) -> ServerKey:
    """Makes a new key and writes it to a new file with mode 0600.

    Args:
        path: where to.
        object_id: of the KeyServer object; by default a random one, for ledgers that hold no such objects.

    Raises:
        ConfigurationError: `key-file`: keys are never overwritten.
    """
    named = object_id or secrets.token_bytes(32)
    secret = random_scalar().to_bytes(32, "big")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"key file {path} exists already", reason="key-file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_KeyFile(format_address(named), secret.hex())) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return ServerKey(named, secret)
