"""Signed transactions that are written down before they are sent, so that a crash can never anchor or register twice.

A transaction is identified by its digest, which is a function of its bytes: sending the same bytes again is idempotent
on Sui. So the bytes are on disk (synchronously) before the first send, and a restarted relay sends those, never a
rebuilt transaction whose fate nobody could tell from the first one's.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daas.common.errors import Conflict
from daas.ledger import SignedTransaction

#: Sui's serialized Ed25519 signature: flag, signature, public key.
SIGNATURE_LENGTH = 97

SCHEMA = """
CREATE TABLE IF NOT EXISTS transactions (
  key        TEXT PRIMARY KEY,
  digest     TEXT NOT NULL,
  bytes      BLOB NOT NULL,
  signatures BLOB NOT NULL,
  final      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS anchors (
  sequence       INTEGER PRIMARY KEY,
  payload_digest TEXT NOT NULL,
  tx_digest      TEXT NOT NULL,
  public_key     TEXT NOT NULL,
  message        INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS enclaves (
  public_key TEXT PRIMARY KEY,
  enclave    TEXT NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class AnchorRecord:
    """What was anchored under a number, and by which message (stream sequence) of which key."""

    payload_digest: str
    tx_digest: str
    public_key: str
    message: int


class Outbox:
    """The relay's own memory; small, local, and rebuilt from the ledger's head and the bus where it is lost.

    Args:
        path: sqlite file; its directory is made.
    """

    #: Anchors remembered: a redelivered decision is at most max_deliver messages old.
    KEEP = 10_000

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
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

    def prepare(self, key: str, transaction: SignedTransaction) -> None:
        """Writes a transaction down before its first send.

        Raises:
            Conflict: `already-prepared` when another one stands under this key: its fate must be known first.
        """
        try:
            self._db.execute(
                "INSERT INTO transactions (key, digest, bytes, signatures) VALUES (?, ?, ?, ?)",
                (key, transaction.digest, transaction.data, b"".join(transaction.signatures)),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"a transaction for {key} was prepared before", reason="already-prepared") from None

    def prepared(self, key: str) -> SignedTransaction | None:
        """The transaction written down under a key."""
        row = self._db.execute("SELECT digest, bytes, signatures FROM transactions WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        joined = bytes(row[2])
        signatures = tuple(joined[i : i + SIGNATURE_LENGTH] for i in range(0, len(joined), SIGNATURE_LENGTH))
        return SignedTransaction(data=bytes(row[1]), signatures=signatures, digest=row[0])

    def forget(self, key: str) -> None:
        """Drops a transaction that can never take effect, so that another may be prepared."""
        self._db.execute("DELETE FROM transactions WHERE key = ? AND final = 0", (key,))

    def anchored(self, key: str, sequence: int, record: AnchorRecord) -> None:
        """Says that an anchor is final; in one transaction with the record that answers redeliveries."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM transactions WHERE key = ?", (key,))
            self._db.execute(
                "INSERT OR IGNORE INTO anchors VALUES (?, ?, ?, ?, ?)",
                (sequence, record.payload_digest, record.tx_digest, record.public_key, record.message),
            )
            self._db.execute("DELETE FROM anchors WHERE sequence <= ?", (sequence - self.KEEP,))

    def anchor(self, sequence: int) -> AnchorRecord | None:
        """What this relay anchored under a number."""
        row = self._db.execute(
            "SELECT payload_digest, tx_digest, public_key, message FROM anchors WHERE sequence = ?", (sequence,)
        ).fetchone()
        return AnchorRecord(*row) if row else None

    def registered(self, key: str, public_key: str, enclave: str, expires_ms: int) -> None:
        """Says that a registration is final."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE transactions SET final = 1 WHERE key = ?", (key,))
            self._db.execute(
                "INSERT INTO enclaves (public_key, enclave, expires_ms) VALUES (?, ?, ?) ON CONFLICT (public_key) "
                "DO UPDATE SET enclave = excluded.enclave, expires_ms = excluded.expires_ms",
                (public_key, enclave, expires_ms),
            )

    def enclave(self, public_key: str) -> str | None:
        """The Enclave object that a key is registered under."""
        row = self._db.execute("SELECT enclave FROM enclaves WHERE public_key = ?", (public_key,)).fetchone()
        return str(row[0]) if row else None

    def revoked(self, public_key: str) -> None:
        """Forgets a key that may sign no longer."""
        self._db.execute("DELETE FROM enclaves WHERE public_key = ?", (public_key,))
