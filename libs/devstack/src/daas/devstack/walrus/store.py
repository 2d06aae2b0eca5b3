"""Blobs on disk with Walrus's lifetimes: epochs that pass by the clock, permanent and deletable, expiry, blocking.

A file's rename makes it exist, so a killed process leaves whole blobs or none.
"""

import base64
import json
import os
import secrets
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from daas.common.errors import ConfigurationError

#: A day, as on the test network.
EPOCH_MS: Final = 86_400_000
#: Walrus encodes at about 4.5 times the size, and adds 64 MB of metadata for each blob, whatever its size.
ENCODED_FACTOR: Final = 4.5
METADATA_BYTES: Final = 64_000_000
#: FROST for a MiB of encoded size and epoch; the order of magnitude of the test network.
FROST_PER_MIB: Final = 100
_FIRST_EPOCH: Final = 1


def blob_id_of(data: bytes) -> str:
    """The stand-in's id: blake2b-256, where Walrus has the root over its slivers."""
    return base64.urlsafe_b64encode(blake2b(data, digest_size=32).digest()).decode().rstrip("=")


class BlobStore:
    """One directory of blobs.

    Args:
        directory: made if missing; a second run continues where the first stopped.
        epoch_ms: length of an epoch; what the first run was given stays.
        clock_ms: milliseconds since 1970.
    """

    def __init__(self, directory: Path, *, epoch_ms: int, clock_ms: Callable[[], int]) -> None:
        self._blobs = directory / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._clock_ms = clock_ms
        self._state_path = directory / "epochs.json"
        if not self._state_path.exists():
            if epoch_ms < 1:
                raise ConfigurationError("an epoch lasts a millisecond or more", reason="invalid-setting")
            self._write(self._state_path, {"start_ms": clock_ms(), "epoch_ms": epoch_ms, "skipped": 0})
        self._state: dict[str, int] = json.loads(self._state_path.read_bytes())
        self._seen_path = directory / "tokens"
        self._seen = set(self._seen_path.read_text().split()) if self._seen_path.exists() else set()

    @property
    def epoch_ms(self) -> int:
        """Length of an epoch."""
        return self._state["epoch_ms"]

    @property
    def epoch(self) -> int:
        """The current epoch."""
        passed = (self._clock_ms() - self._state["start_ms"]) // self.epoch_ms
        return _FIRST_EPOCH + int(passed) + self._state["skipped"]

    def skip(self, epochs: int) -> None:
        """Lets epochs pass at once."""
        self._state["skipped"] += epochs
        self._write(self._state_path, self._state)

    def use_token(self, identity: str) -> bool:
        """Whether a token's id comes for the first time; it is remembered."""
        if identity in self._seen:
            return False
        self._seen.add(identity)
        with self._seen_path.open("a") as seen:
            seen.write(identity + "\n")
        return True

    def put(self, data: bytes, *, epochs: int, permanent: bool, force: bool) -> tuple[dict[str, Any], bool]:
        """Stores bytes, or finds them: the record, and whether it was made now."""
        blob_id = blob_id_of(data)
        end = self.epoch + epochs
        record = self.record(blob_id)
        if record is not None and not force and record["end_epoch"] >= end and record["permanent"] >= permanent:
            return record, False
        encoded = int(len(data) * ENCODED_FACTOR) + METADATA_BYTES
        made = {
            "blob_id": blob_id,
            "object_id": "0x" + secrets.token_hex(32),
            "registered_epoch": self.epoch,
            "end_epoch": max(end, record["end_epoch"] if record else 0),
            "permanent": permanent or bool(record and record["permanent"]),
            "size": len(data),
            "encoded": encoded,
            "cost": -(-encoded // 1_048_576) * FROST_PER_MIB * epochs,
            "tx_digest": secrets.token_hex(16),
            "objects": (record["objects"] if record else 0) + 1,
        }
        path = self._blobs / f"{blob_id}.bin"
        if not path.exists():
            self._rename(path, data)
        self._write(self._blobs / f"{blob_id}.json", made)
        return made, True

    def record(self, blob_id: str) -> dict[str, Any] | None:
        """What is known of a living blob."""
        path = self._blobs / f"{blob_id}.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found if found["end_epoch"] > self.epoch else None

    def read(self, blob_id: str) -> bytes | None:
        """The bytes of a living blob."""
        if self.record(blob_id) is None:
            return None
        return (self._blobs / f"{blob_id}.bin").read_bytes()

    def by_object(self, object_id: str) -> str | None:
        """The blob of an object."""
        for record in self.all():
            if record["object_id"] == object_id:
                return str(record["blob_id"])
        return None

    def all(self) -> list[dict[str, Any]]:
        """Records of all living blobs, by id."""
        found = (self.record(path.stem) for path in sorted(self._blobs.glob("*.json")))
        return [record for record in found if record is not None]

    def _write(self, path: Path, value: Any) -> None:
        self._rename(path, json.dumps(value).encode())

    @staticmethod
    def _rename(path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)
