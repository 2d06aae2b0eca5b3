"""Killed at any moment, the state is that of a whole number of transactions, and the same bytes get the same answer."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from spend_without_end import FUNDS_MIST, RECIPIENT

from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.store import Store
from daas.devstack.ledger.transaction_data import transaction_digest

SCRIPT = Path(__file__).parent / "support/spend_without_end.py"
TRANSACTIONS = 1_000
KILLS = 4

pytestmark = pytest.mark.connected

Printed = tuple[bytes, bytes, str]


def run_until(state: Path, seed: bytes, lines_max: int | None) -> list[Printed]:
    """What the process printed before it was killed after so many lines; None: it is left to finish."""
    printed: list[Printed] = []
    command = [sys.executable, str(SCRIPT), str(state), seed.hex(), str(TRANSACTIONS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # torn by the kill
            data, signature, digest = line.split()
            printed.append((bytes.fromhex(data), bytes.fromhex(signature), digest))
            if len(printed) == lines_max:
                process.kill()
    return printed


def test_kill_9_in_the_middle_of_a_thousand_transactions_loses_and_doubles_nothing(tmp_path: Path, seed: bytes) -> None:
    chance = random.Random(seed)
    printed: list[Printed] = []
    for _ in range(KILLS):
        printed += run_until(tmp_path, seed, chance.randrange(20, 200))
        check(tmp_path, printed)
    printed += run_until(tmp_path, seed, None)
    check(tmp_path, printed)
    assert TRANSACTIONS - KILLS <= len(printed) <= TRANSACTIONS


def check(state: Path, printed: list[Printed]) -> None:
    store = Store(state)
    try:
        ledger = Ledger(store, LedgerClock(), ())
        height = ledger.latest.sequence
        executed = height - 1  # beside genesis and the faucet's transaction
        assert 0 <= executed - len(printed) <= KILLS  # a kill between the commit and the print leaves one unprinted
        sent = store.owned(RECIPIENT, "address", b"", TRANSACTIONS + 1)
        assert sorted(coin.balance or 0 for coin in sent) == list(range(1, executed + 1))
        for data, signature, digest in printed:
            record = store.executed(transaction_digest(data))
            assert record is not None
            assert ledger.execute(data, [signature]) == record
            assert hashlib.sha256(record).hexdigest() == digest
        assert ledger.latest.sequence == height
        previous = store.checkpoint(0)
        for number in range(1, height + 1):
            checkpoint = store.checkpoint(number)
            assert checkpoint is not None
            assert previous is not None
            assert previous.digest in checkpoint.summary
            assert store.executed(checkpoint.transaction_digest) is not None
            previous = checkpoint
        left = store.owned(sender_of(printed), "address", b"", 2)
        spent = FUNDS_MIST - sum(coin.balance or 0 for coin in (*sent, *left))
        first_rebate = 988_000 - 988_000 * 9_900 // 10_000
        assert spent == executed * (1_000_000 + 988_000 + first_rebate)
    finally:
        store.close()


def sender_of(printed: list[Printed]) -> bytes:
    return hashlib.blake2b(b"\x00" + printed[0][1][65:], digest_size=32).digest()
