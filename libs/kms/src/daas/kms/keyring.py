"""Which sealed seeds a cluster's KMS plugins know: a small JSON file, public but for its owner's hand alone.

Nobody learns a secret from it: seeds lie in it as Seal objects. But it decides which seeds count, and anyone can seal a
seed of his own under a policy: so whoever may write it may forge Secrets. Every server of a cluster has the same one.
"""

import base64
import binascii
import os
import stat
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final

import msgspec

from daas.common.errors import ConfigurationError, DaasError, DecodeError, InvalidInput
from daas.common.messages import Name, ObjectId
from daas.seal import EncryptedObject

#: A file of 64 generations to 11 servers has 100 kB.
FILE_BYTES_MAX: Final = 1024 * 1024
GENERATIONS_MAX: Final = 64
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sealed seed.

    Attributes:
        number: from 1.
        key_id: what API servers know it by: number and digest of the sealed seed.
        sealed: base64 of the Seal object.
        created_ms: when it was made, ms since the epoch.
    """

    number: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    key_id: Annotated[str, msgspec.Meta(max_length=128)]
    sealed: Annotated[str, msgspec.Meta(max_length=32_768)]
    created_ms: Annotated[int, msgspec.Meta(ge=0)]

    @property
    def sealed_bytes(self) -> bytes:
        """The Seal object."""
        try:
            return base64.b64decode(self.sealed, validate=True)
        except (binascii.Error, ValueError):
            raise DecodeError("a sealed seed is not base64", reason="kms-keyring", field="sealed") from None


class Keyring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sealed seeds of a cluster, and the policy that they are sealed under.

    Attributes:
        cluster: its name.
        package: of the policy, its first version.
        policy, pool: objects on the ledger: the Seal policy and the pool of stakes that it looks at.
        node: the Node object of the plugins' account, where it asks as a node; else it asks by its own stake.
        generations: in order; the last one is encrypted with.
    """

    schema: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    cluster: Name
    package: ObjectId
    policy: ObjectId
    pool: ObjectId
    node: ObjectId | None = None
    generations: Annotated[tuple[Generation, ...], msgspec.Meta(max_length=GENERATIONS_MAX)] = ()

    @property
    def current(self) -> Generation | None:
        """What is encrypted with."""
        return self.generations[-1] if self.generations else None

    def check(self) -> None:
        """Holds every generation to the file's head.

        Raises:
            DaasError: DecodeError `kms-keyring`, or what the Seal object's decoder says.
        """
        numbers = [one.number for one in self.generations]
        if sorted(set(numbers)) != numbers:
            raise DecodeError("generations are numbered in ascending order", reason="kms-keyring", field="number")
        for one in self.generations:
            sealed = one.sealed_bytes
            parsed = EncryptedObject.decode(sealed)
            if "0x" + parsed.package_id.hex() != self.package:
                raise DecodeError(f"seed {one.number} is sealed under another package", reason="kms-keyring")
            if "0x" + parsed.inner_id[:32].hex() != self.policy:
                raise DecodeError(f"seed {one.number} is sealed under another policy", reason="kms-keyring")
            if parsed.aad != associated(self.cluster, one.number):
                raise DecodeError(f"seed {one.number} was sealed as another one", reason="kms-keyring")
            if one.key_id != key_id(one.number, sealed):
                raise DecodeError(f"seed {one.number} has another key id", reason="kms-keyring", field="key_id")


def associated(cluster: str, number: int) -> bytes:
    """Additional data of a sealed seed: what it is for."""
    return f"k3s-daas/kms/1 {cluster} {number}".encode()


def key_id(number: int, sealed: bytes) -> str:
    """What API servers know a generation by."""
    return f"daas-kms-{number}-{blake2b(sealed, digest_size=16).hexdigest()}"


def load(path: Path) -> Keyring:
    """Reads and checks a file.

    Raises:
        ConfigurationError: `kms-keyring`: it is not there, others may write it, or it breaks a rule.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"keyring {path}: {error.strerror}", reason="kms-keyring") from None
    if mode & _OTHERS_WRITE:
        text = f"keyring {path} has mode {stat.S_IMODE(mode):04o}: others may write it, and whoever may forges Secrets"
        raise ConfigurationError(text, reason="kms-keyring")
    return decode(data, str(path))


def decode(data: bytes, where: str) -> Keyring:
    """Reads and checks the bytes of a file; errors as of `load`."""
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(f"keyring {where} is too large", reason="kms-keyring")
    try:
        keyring = msgspec.json.decode(data, type=Keyring)
        keyring.check()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"keyring {where}: {error}", reason="kms-keyring") from None
    except DaasError as error:
        raise ConfigurationError(f"keyring {where}: {error.message}", reason="kms-keyring", field=error.field) from None
    return keyring


def save(path: Path, keyring: Keyring) -> None:
    """Writes a file (mode 0600) in one step, durably: a sealed seed that is lost takes its Secrets along."""
    keyring.check()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keyring), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def drop(keyring: Keyring, number: int) -> Keyring:
    """A keyring without an old generation. What is still stored under it can't be read any more, by nobody.

    Raises:
        InvalidInput: `kms-generation`: there is no such generation, or it is the current one.
    """
    kept = tuple(one for one in keyring.generations if one.number != number)
    if len(kept) == len(keyring.generations) or kept[-1:] != keyring.generations[-1:]:
        raise InvalidInput(f"generation {number} is the current one, or there is none", reason="kms-generation")
    return msgspec.structs.replace(keyring, generations=kept)
