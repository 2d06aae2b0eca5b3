"""The ledger's state in sqlite: one transaction's effects, checkpoint and record commit together or not at all."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.objects import Object, Owner
from daas.devstack.ledger.type_tags import format_type, parse_type

SCHEMA_VERSION: Final = 1
_OWNER_KINDS: Final = ("address", "object", "shared", "immutable")

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    id BLOB PRIMARY KEY, version INTEGER NOT NULL, owner_kind INTEGER NOT NULL, owner BLOB NOT NULL,
    shared_version INTEGER NOT NULL, type TEXT NOT NULL, contents BLOB NOT NULL, previous BLOB NOT NULL,
    storage_mist INTEGER NOT NULL, public_transfer INTEGER NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX objects_by_owner ON objects (owner, owner_kind, type) WHERE owner != x'';
CREATE TABLE packages (id BLOB PRIMARY KEY, version INTEGER NOT NULL, digest BLOB NOT NULL, modules BLOB NOT NULL,
    previous BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE transactions (digest BLOB PRIMARY KEY, checkpoint INTEGER NOT NULL, executed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoints (
    sequence INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, summary BLOB NOT NULL, contents BLOB NOT NULL,
    transactions_total INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, content_digest BLOB NOT NULL,
    transaction_digest BLOB NOT NULL
);
"""
# Amounts fit: an sqlite integer has 63 bits, and no object pays 2^63 MIST for its storage.


class Package(msgspec.Struct, frozen=True):
    """A published package: its id, and its modules with their own address filled in."""

    id: bytes
    version: int
    digest: bytes
    modules: tuple[bytes, ...]
    previous: bytes


class Checkpoint(msgspec.Struct, frozen=True):
    """One checkpoint: the BCS of its summary and contents, and the parts that are asked for by name."""

    sequence: int
    digest: bytes
    summary: bytes
    contents: bytes
    transactions_total: int
    timestamp_ms: int
    content_digest: bytes
    transaction_digest: bytes


class Commit(msgspec.Struct, frozen=True):
    """Everything that one transaction changes."""

    checkpoint: Checkpoint
    digest: bytes
    executed: bytes
    written: Sequence[Object] = ()
    removed: Sequence[bytes] = ()
    package: Package | None = None


class Store:
    """The state directory of one ledger; one process at a time may have it open."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise LedgerError(f"another process has the ledger in {directory} open", reason="state-locked") from None
        self._database = sqlite3.connect(directory / "ledger.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA cache_size = -8000")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise LedgerError(f"expected state of schema {SCHEMA_VERSION}, got {version}", reason="state-version")

    def close(self) -> None:
        """Release the state directory."""
        self._database.close()
        os.close(self._lock)

    # Writing

    def commit(self, commit: Commit) -> None:
        """Record one executed transaction, atomically and durably."""
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (
                        o.id,
                        o.version,
                        _OWNER_KINDS.index(o.owner.kind),
                        o.owner.address,
                        o.owner.shared_version,
                        format_type(o.type),
                        o.contents,
                        o.previous,
                        o.storage_mist,
                        o.public_transfer,
                        o.digest,
                    )
                    for o in commit.written
                ],
            )
            self._database.executemany("DELETE FROM objects WHERE id = ?", [(i,) for i in commit.removed])
            if commit.package is not None:
                p = commit.package
                execute(
                    "INSERT INTO packages VALUES (?,?,?,?,?)",
                    (p.id, p.version, p.digest, msgspec.msgpack.encode(p.modules), p.previous),
                )
            c = commit.checkpoint
            execute("INSERT INTO transactions VALUES (?,?,?)", (commit.digest, c.sequence, commit.executed))
            execute(
                "INSERT INTO checkpoints VALUES (?,?,?,?,?,?,?,?)",
                (
                    c.sequence,
                    c.digest,
                    c.summary,
                    c.contents,
                    c.transactions_total,
                    c.timestamp_ms,
                    c.content_digest,
                    c.transaction_digest,
                ),
            )
            execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                execute("ROLLBACK")
            raise

    def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value by name."""
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (name, value))

    # Reading

    def meta(self, name: str) -> bytes | None:
        """A small value by name."""
        row = self._database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def object(self, object_id: bytes) -> Object | None:
        """The newest version of an object, None if there is none."""
        row = self._database.execute("SELECT * FROM objects WHERE id = ?", (object_id,)).fetchone()
        return _object(row) if row else None

    def owned(self, owner: bytes, kind: str, after: bytes, limit: int, type_prefix: str = "") -> list[Object]:
        """Objects of an owner in the order of their ids, after an id; types equal the prefix or instantiate it."""
        rows = self._database.execute(
            "SELECT * FROM objects WHERE owner = ? AND owner_kind = ? AND id > ?"
            " AND (? = '' OR type = ? OR substr(type, 1, length(?) + 1) = ? || '<') ORDER BY id LIMIT ?",
            (owner, _OWNER_KINDS.index(kind), after, type_prefix, type_prefix, type_prefix, type_prefix, limit),
        )
        return [_object(row) for row in rows]

    def packages(self) -> Iterator[Package]:
        """All published packages, in the order of publication."""
        rows = self._database.execute(
            "SELECT p.* FROM packages p JOIN transactions t ON t.digest = p.previous ORDER BY t.checkpoint"
        )
        for row in rows:
            yield Package(row[0], row[1], row[2], msgspec.msgpack.decode(row[3], type=tuple[bytes, ...]), row[4])

    def executed(self, digest: bytes) -> bytes | None:
        """The record of an executed transaction (protobuf), None if it is not known."""
        row = self._database.execute("SELECT executed FROM transactions WHERE digest = ?", (digest,)).fetchone()
        return row[0] if row else None

    def checkpoint(self, sequence: int) -> Checkpoint | None:
        """A checkpoint by number."""
        row = self._database.execute("SELECT * FROM checkpoints WHERE sequence = ?", (sequence,)).fetchone()
        return Checkpoint(*row) if row else None

    def checkpoint_by_digest(self, digest: bytes) -> Checkpoint | None:
        """A checkpoint by its digest."""
        row = self._database.execute("SELECT * FROM checkpoints WHERE digest = ?", (digest,)).fetchone()
        return Checkpoint(*row) if row else None

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, None before genesis."""
        row = self._database.execute("SELECT * FROM checkpoints ORDER BY sequence DESC LIMIT 1").fetchone()
        return Checkpoint(*row) if row else None


def _object(row: tuple[bytes, int, int, bytes, int, str, bytes, bytes, int, int, bytes]) -> Object:
    kind = _OWNER_KINDS[row[2]]
    return Object(
        id=row[0],
        version=row[1],
        owner=Owner(kind, row[3], row[4]),  # type: ignore[arg-type]  # the index is one of the four kinds
        type=parse_type(row[5]),
        contents=row[6],
        previous=row[7],
        storage_mist=row[8],
        public_transfer=bool(row[9]),
        digest=row[10],
    )
