"""What the relay must still know after a crash, in one sqlite file: signed transactions, anchors, keys, the cursor.

A transaction is identified by its digest, which is a function of its bytes: sending the same bytes again is idempotent
on Sui. So the bytes are on disk (synchronously) before the first send, with the messages they answer, and a restarted
relay sends those, never a rebuilt transaction whose fate nobody could tell from the first one's. Everything else is
written in order but not waited for: after a loss of power it is learned again from the ledger and the bus.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from daas.common.errors import Conflict
from daas.ledger import SignedTransaction

#: Sui's serialized Ed25519 signature: flag, signature, public key.
SIGNATURE_LENGTH = 97

SCHEMA = """
CREATE TABLE IF NOT EXISTS open_transactions (
  number     INTEGER PRIMARY KEY,
  key        TEXT NOT NULL UNIQUE,
  digest     TEXT NOT NULL,
  bytes      BLOB NOT NULL,
  signatures BLOB NOT NULL,
  settled    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS members (
  key            TEXT NOT NULL,
  sequence       INTEGER NOT NULL,
  payload_digest TEXT NOT NULL,
  public_key     TEXT NOT NULL,
  message        INTEGER NOT NULL,
  traceparent    TEXT,
  PRIMARY KEY (key, sequence)
) STRICT;
CREATE TABLE IF NOT EXISTS chain_anchors (
  sequence       INTEGER PRIMARY KEY,
  payload_digest TEXT NOT NULL,
  public_key     TEXT NOT NULL,
  tx_digest      TEXT NOT NULL,
  checkpoint     INTEGER,
  timestamp_ms   INTEGER,
  message        INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS keys (
  enclave             TEXT PRIMARY KEY,
  public_key          TEXT NOT NULL,
  measurement_version INTEGER NOT NULL,
  registered_ms       INTEGER NOT NULL,
  expires_ms          INTEGER NOT NULL,
  over                TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS keys_by_public_key ON keys (public_key);
CREATE TABLE IF NOT EXISTS replaced_keys (
  public_key TEXT PRIMARY KEY,
  successor  TEXT NOT NULL,
  noted_ms   INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cursor (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  checkpoint INTEGER NOT NULL,
  digest     TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS positions (stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Member:
    """One batch of an anchoring transaction, and the message (stream sequence in PLACEMENT) that brought it."""

    sequence: int
    payload_digest: str
    public_key: str
    message: int
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that was signed and written down. `members` is empty for a registration."""

    key: str
    transaction: SignedTransaction
    settled: bool
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class AnchorRecord:
    """What the ledger holds under a number. `message` is the decision whose `placement.anchored` is out; else None."""

    sequence: int
    payload_digest: str
    public_key: str
    tx_digest: str
    checkpoint: int | None
    timestamp_ms: int | None
    message: int | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One registration. `over` says why it is over; None while it is not, as far as the relay has seen."""

    enclave: str
    public_key: str
    measurement_version: int
    registered_ms: int
    expires_ms: int
    over: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last checkpoint whose events have all become facts, and its digest (base58)."""

    checkpoint: int
    digest: str


class Outbox:
    """The relay's own memory; small and local. Where it is lost, all but open transactions comes back from the ledger.

    Args:
        path: sqlite file; its directory is made.
    """

    #: Anchors remembered: a redelivered decision is at most max_deliver deliveries of 64 messages old.
    KEEP: Final = 10_000

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # What is known again from the ledger and the bus need not wait for the disk; only `prepare` does.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def __enter__(self) -> Self:
        """The outbox itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    # Transactions.

    def prepare(self, key: str, transaction: SignedTransaction, members: Sequence[Member] = ()) -> None:
        """Writes a transaction down before its first send.

        Raises:
            Conflict: `already-prepared` when another one stands under this key: its fate must be known first.
        """
        self._db.execute("PRAGMA synchronous=FULL")
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(
                    "INSERT INTO open_transactions (key, digest, bytes, signatures) VALUES (?, ?, ?, ?)",
                    (key, transaction.digest, transaction.data, b"".join(transaction.signatures)),
                )
                self._db.executemany(
                    "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?)",
                    [(key, m.sequence, m.payload_digest, m.public_key, m.message, m.traceparent) for m in members],
                )
        except sqlite3.IntegrityError:
            raise Conflict(f"a transaction for {key} was prepared before", reason="already-prepared") from None
        finally:
            self._db.execute("PRAGMA synchronous=NORMAL")

    def opened(self) -> list[OpenTransaction]:
        """Every transaction whose fate is open or whose members wait for their facts, oldest first."""
        rows = self._db.execute(
            "SELECT key FROM open_transactions AS t WHERE settled = 0 "
            "OR EXISTS (SELECT 1 FROM members WHERE members.key = t.key) ORDER BY number"
        ).fetchall()
        found = [self.prepared(row[0]) for row in rows]
        return [transaction for transaction in found if transaction is not None]

    def prepared(self, key: str) -> OpenTransaction | None:
        """The transaction written down under a key."""
        row = self._db.execute(
            "SELECT digest, bytes, signatures, settled FROM open_transactions WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        joined = bytes(row[2])
        signatures = tuple(joined[i : i + SIGNATURE_LENGTH] for i in range(0, len(joined), SIGNATURE_LENGTH))
        members = self._db.execute(
            "SELECT sequence, payload_digest, public_key, message, traceparent FROM members WHERE key = ? "
            "ORDER BY sequence",
            (key,),
        ).fetchall()
        return OpenTransaction(
            key=key,
            transaction=SignedTransaction(data=bytes(row[1]), signatures=signatures, digest=row[0]),
            settled=bool(row[3]),
            members=tuple(Member(*member) for member in members),
        )

    def settle(self, key: str) -> None:
        """Says that the transaction's fate is known: it need not be sent again before another one is built."""
        self._db.execute("UPDATE open_transactions SET settled = 1 WHERE key = ?", (key,))

    def forget(self, key: str) -> None:
        """Drops a transaction that is done with, or can never take effect, so that another may be prepared."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._db.execute("DELETE FROM open_transactions WHERE key = ?", (key,))
        self._db.execute("DELETE FROM members WHERE key = ?", (key,))

    # Anchors.

    def anchored(self, key: str | None, records: Iterable[AnchorRecord]) -> None:
        """Keeps anchors, and drops the transaction `key` that made them, in one step.

        What was known stays: a record without checkpoint or message takes nothing away.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if key is not None:
                self._drop(key)
            newest = 0
            for r in records:
                newest = max(newest, r.sequence)
                self._db.execute(
                    "INSERT INTO chain_anchors VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sequence) DO UPDATE SET "
                    "checkpoint = COALESCE(excluded.checkpoint, checkpoint), "
                    "timestamp_ms = COALESCE(excluded.timestamp_ms, timestamp_ms), "
                    "message = COALESCE(message, excluded.message)",
                    (r.sequence, r.payload_digest, r.public_key, r.tx_digest, r.checkpoint, r.timestamp_ms, r.message),
                )
            self._db.execute("DELETE FROM chain_anchors WHERE sequence <= ?", (newest - self.KEEP,))

    def anchor(self, sequence: int) -> AnchorRecord | None:
        """What the ledger holds under a number, where the relay has seen it."""
        row = self._db.execute("SELECT * FROM chain_anchors WHERE sequence = ?", (sequence,)).fetchone()
        return AnchorRecord(*row) if row else None

    def newest_anchor(self) -> AnchorRecord | None:
        """The anchor with the highest number that the relay has seen."""
        row = self._db.execute("SELECT * FROM chain_anchors ORDER BY sequence DESC LIMIT 1").fetchone()
        return AnchorRecord(*row) if row else None

    # Keys.

    def registered(self, record: KeyRecord) -> None:
        """Keeps a registration; one that is over stays over."""
        self._db.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (enclave) DO NOTHING",
            (
                record.enclave,
                record.public_key,
                record.measurement_version,
                record.registered_ms,
                record.expires_ms,
                record.over,
            ),
        )

    def key(self, public_key: str) -> KeyRecord | None:
        """The newest registration of a key; one that is not over comes first."""
        row = self._db.execute(
            "SELECT * FROM keys WHERE public_key = ? ORDER BY over IS NOT NULL, registered_ms DESC, rowid DESC LIMIT 1",
            (public_key,),
        ).fetchone()
        return KeyRecord(*row) if row else None

    def end(self, enclave: str, why: str) -> None:
        """Says that a registration is over; the first reason stays."""
        self._db.execute("UPDATE keys SET over = ? WHERE enclave = ? AND over IS NULL", (why, enclave))

    def current_keys(self) -> list[KeyRecord]:
        """Every registration that is not over, oldest first."""
        rows = self._db.execute("SELECT * FROM keys WHERE over IS NULL ORDER BY registered_ms, rowid").fetchall()
        return [KeyRecord(*row) for row in rows]

    def replaced(self, public_key: str, successor: str, now_ms: int) -> None:
        """Notes that a key has been replaced; the first note stays."""
        self._db.execute(
            "INSERT INTO replaced_keys VALUES (?, ?, ?) ON CONFLICT (public_key) DO NOTHING",
            (public_key, successor, now_ms),
        )

    def replaced_before(self, ms: int) -> list[tuple[str, str]]:
        """Keys whose replacement was noted until a time, with their successors, oldest first."""
        return self._db.execute(
            "SELECT public_key, successor FROM replaced_keys WHERE noted_ms <= ? ORDER BY noted_ms", (ms,)
        ).fetchall()

    def forget_replaced(self, public_key: str) -> None:
        """Says that nothing is left to do for a replaced key."""
        self._db.execute("DELETE FROM replaced_keys WHERE public_key = ?", (public_key,))

    # The cursor.

    def cursor(self) -> Cursor | None:
        """Where following the ledger goes on; None before the first checkpoint."""
        row = self._db.execute("SELECT checkpoint, digest FROM cursor").fetchone()
        return Cursor(*row) if row else None

    def positions(self) -> dict[str, int]:
        """By stream: no fact of a checkpoint after the cursor stands at or before this stream sequence."""
        return dict(self._db.execute("SELECT stream, sequence FROM positions").fetchall())

    def advance(self, cursor: Cursor, positions: dict[str, int]) -> None:
        """Says that every event up to and including a checkpoint has become a fact."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO cursor VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET checkpoint = excluded.checkpoint, "
                "digest = excluded.digest",
                (cursor.checkpoint, cursor.digest),
            )
            self._db.executemany(
                "INSERT INTO positions VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence",
                list(positions.items()),
            )
