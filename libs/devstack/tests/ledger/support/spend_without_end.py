"""Executes transfers on a ledger's state, one after the other, and prints what it did.

`python spend_without_end.py STATE KEY_HEX COUNT` prints a line for each transfer: its bytes, its signature and the hash
of its record, until COUNT transfers are in the ledger or the process is killed.
"""

import hashlib
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.signatures import address_of
from daas.devstack.ledger.store import Store

RECIPIENT = b"\x07" * 32
FUNDS_MIST = 1_000_000_000_000


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def transfer(ledger: Ledger, sender: bytes, amount: int) -> bytes:
    """Splits an amount off the sender's one coin and sends it."""
    (coin,) = ledger.store.owned(sender, "address", b"", 2)
    inputs = b"\x02\x00\x08" + u64(amount) + b"\x00\x20" + RECIPIENT
    split = b"\x02\x00\x01\x01" + bytes(2)
    send = b"\x01\x01\x03" + bytes(4) + b"\x01\x01\x00"
    reference = coin.id + u64(coin.version) + b"\x20" + coin.digest
    gas = b"\x01" + reference + sender + u64(1_000) + u64(10_000_000)
    return b"\x00\x00" + inputs + b"\x02" + split + send + sender + gas + b"\x00"


def main() -> None:
    state, key_hex, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key_hex))
    public_key = key.public_key().public_bytes_raw()
    sender = address_of(public_key)
    ledger = Ledger(Store(state), LedgerClock(), ())
    if ledger.latest.sequence == 0:
        ledger.mint(sender, FUNDS_MIST)
    while ledger.latest.sequence < count + 1:
        data = transfer(ledger, sender, ledger.latest.sequence)
        message = hashlib.blake2b(bytes(3) + data, digest_size=32).digest()
        signature = b"\x00" + key.sign(message) + public_key
        record = ledger.execute(data, [signature])
        print(data.hex(), signature.hex(), hashlib.sha256(record).hexdigest(), flush=True)  # noqa: T201 - the output


if __name__ == "__main__":
    main()
