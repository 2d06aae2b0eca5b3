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
from daas.devstack.ledger.filters import Facts
from daas.devstack.ledger.objects import Object, Owner
from daas.devstack.ledger.program import Package
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, GAS_COIN, Type, format_type, parse_type

SCHEMA_VERSION: Final = 2
_OWNER_KINDS: Final = ("address", "object", "shared", "immutable")

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    id BLOB PRIMARY KEY, version INTEGER NOT NULL, owner_kind INTEGER NOT NULL, owner BLOB NOT NULL,
    shared_version INTEGER NOT NULL, type TEXT NOT NULL, contents BLOB NOT NULL, previous BLOB NOT NULL,
    storage_mist INTEGER NOT NULL, public_transfer INTEGER NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE past_objects (
    id BLOB NOT NULL, version INTEGER NOT NULL, owner_kind INTEGER NOT NULL, owner BLOB NOT NULL,
    shared_version INTEGER NOT NULL, type TEXT NOT NULL, contents BLOB NOT NULL, previous BLOB NOT NULL,
    storage_mist INTEGER NOT NULL, public_transfer INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (id, version)
) WITHOUT ROWID;
CREATE TABLE funds (owner BLOB NOT NULL, coin_type TEXT NOT NULL, amount BLOB NOT NULL, PRIMARY KEY (owner, coin_type))
    WITHOUT ROWID;
CREATE INDEX objects_by_owner ON objects (owner, owner_kind, type) WHERE owner != x'';
CREATE TABLE packages (id BLOB PRIMARY KEY, checkpoint INTEGER NOT NULL, package BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE transactions (digest BLOB PRIMARY KEY, checkpoint INTEGER NOT NULL, executed BLOB NOT NULL,
    facts BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoints (
    sequence INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, summary BLOB NOT NULL, contents BLOB NOT NULL,
    transactions_total INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, content_digest BLOB NOT NULL,
    transaction_digest BLOB NOT NULL
);
"""
# Amounts fit: an sqlite integer has 63 bits, and no object pays 2^63 MIST for its storage.


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
    facts: Facts
    written: Sequence[Object] = ()
    replaced: Sequence[Object] = ()
    removed: Sequence[bytes] = ()
    packages: Sequence[Package] = ()
    funds: Sequence[tuple[bytes, Type, int]] = ()


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
            raise LedgerError(
                f"expected state of schema {SCHEMA_VERSION} in {directory}, got {version}: a development ledger starts "
                "anew in an empty directory",
                reason="state-version",
            )

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
            insert = "INSERT OR REPLACE INTO {} VALUES (?,?,?,?,?,?,?,?,?,?,?)"
            self._database.executemany(insert.format("past_objects"), [_row(o) for o in commit.replaced])
            self._database.executemany(insert.format("objects"), [_row(o) for o in commit.written])
            self._database.executemany("DELETE FROM objects WHERE id = ?", [(i,) for i in commit.removed])
            for package in commit.packages:
                execute(
                    "INSERT INTO packages VALUES (?,?,?)",
                    (package.id, commit.checkpoint.sequence, msgspec.msgpack.encode(package)),
                )
            for owner, coin_type, change in commit.funds:
                self._add_funds(owner, format_type(coin_type), change)
            c = commit.checkpoint
            facts = msgspec.msgpack.encode(commit.facts)
            execute("INSERT INTO transactions VALUES (?,?,?,?)", (commit.digest, c.sequence, commit.executed, facts))
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

    def _add_funds(self, owner: bytes, coin_type: str, change: int) -> None:
        amount = self.funds(owner, coin_type) + change
        assert amount >= 0, "admission reserves what is taken"
        if amount:
            row = (owner, coin_type, amount.to_bytes(16, "big"))
            self._database.execute("INSERT OR REPLACE INTO funds VALUES (?,?,?)", row)
        else:
            self._database.execute("DELETE FROM funds WHERE owner = ? AND coin_type = ?", (owner, coin_type))

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

    def past_object(self, object_id: bytes, version: int) -> Object | None:
        """An earlier version of an object, None if there was none."""
        row = self._database.execute(
            "SELECT * FROM past_objects WHERE id = ? AND version = ?", (object_id, version)
        ).fetchone()
        return _object(row) if row else None

    def funds(self, owner: bytes, coin_type: str) -> int:
        """What an address holds without coins, of the coin whose type has this canonical form."""
        row = self._database.execute(
            "SELECT amount FROM funds WHERE owner = ? AND coin_type = ?", (owner, coin_type)
        ).fetchone()
        return int.from_bytes(row[0], "big") if row else 0

    def coin_types(self, owner: bytes) -> list[str]:
        """Canonical forms of the types of `Coin` objects and address balances that an address has."""
        prefix = format_type(GAS_COIN).partition("<")[0] + "<"
        rows = self._database.execute(
            "SELECT DISTINCT substr(type, length(?1) + 1, length(type) - length(?1) - 1) FROM objects"
            " WHERE owner = ?2 AND owner_kind = 0 AND substr(type, 1, length(?1)) = ?1"
            " UNION SELECT coin_type FROM funds WHERE owner = ?2 ORDER BY 1",
            (prefix, owner),
        )
        return [row[0] for row in rows]

    def coin_total(self, owner: bytes, coin: str) -> int:
        """The sum of an address's coins; `coin` is the canonical form of `Coin<T>`."""
        rows = self._database.execute(
            "SELECT contents FROM objects WHERE owner = ? AND owner_kind = 0 AND type = ?", (owner, coin)
        )
        return sum(int.from_bytes(row[0][ADDRESS_LENGTH : ADDRESS_LENGTH + 8], "little") for row in rows)

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
        rows = self._database.execute("SELECT package FROM packages ORDER BY checkpoint")
        for row in rows:
            yield msgspec.msgpack.decode(row[0], type=Package)

    def executed(self, digest: bytes) -> bytes | None:
        """The record of an executed transaction (protobuf), None if it is not known."""
        row = self._database.execute("SELECT executed FROM transactions WHERE digest = ?", (digest,)).fetchone()
        return row[0] if row else None

    def facts(self, digest: bytes) -> Facts:
        """What filters look at of an executed transaction."""
        row = self._database.execute("SELECT facts FROM transactions WHERE digest = ?", (digest,)).fetchone()
        return msgspec.msgpack.decode(row[0], type=Facts)

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


def _row(held: Object) -> tuple[bytes, int, int, bytes, int, str, bytes, bytes, int, bool, bytes]:
    return (
        held.id,
        held.version,
        _OWNER_KINDS.index(held.owner.kind),
        held.owner.address,
        held.owner.shared_version,
        format_type(held.type),
        held.contents,
        held.previous,
        held.storage_mist,
        held.public_transfer,
        held.digest,
    )


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
