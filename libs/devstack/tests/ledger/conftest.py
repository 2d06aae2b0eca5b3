"""A ledger in memory's reach, an account that signs for it, and a ledger in a process of its own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.objects import Object
from daas.devstack.ledger.server import default_packages, pinned_digests
from daas.devstack.ledger.signatures import address_of
from daas.devstack.ledger.store import Store
from daas.devstack.ledger.type_tags import GAS_COIN, format_type

sys.path.insert(0, str(Path(__file__).parent / "support"))  # helpers that several test files import

NOW_MS = 1_795_000_000_000


def u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def blob(data: bytes) -> bytes:
    return uleb(len(data)) + data


def vector(items: Sequence[bytes]) -> bytes:
    return uleb(len(items)) + b"".join(items)


class Account:
    """Builds, signs and runs transactions whose parts are given as BCS."""

    GAS = b"\x00"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.key = Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw()
        self.address = address_of(self.public_key)

    def input(self, index: int) -> bytes:
        return b"\x01" + u16(index)

    def result(self, command: int, nested: int = 0) -> bytes:
        return b"\x03" + u16(command) + u16(nested)

    def pure(self, value: bytes) -> bytes:
        return b"\x00" + blob(value)

    def reference(self, held: Object) -> bytes:
        return held.id + u64(held.version) + b"\x20" + held.digest

    def owned(self, held: Object) -> bytes:
        return b"\x01\x00" + self.reference(held)

    def shared(self, held: Object, *, mutable: bool, version: int | None = None) -> bytes:
        initial = held.owner.shared_version if version is None else version
        return b"\x01\x01" + held.id + u64(initial) + bytes((mutable,))

    def call(self, package: bytes, path: str, *arguments: bytes, types: Sequence[bytes] = ()) -> bytes:
        module, function = path.split("::")
        return b"".join((
            b"\x00", package, blob(module.encode()), blob(function.encode()), vector(types), vector(arguments)
        ))  # fmt: skip

    def transfer(self, recipient: bytes, *objects: bytes) -> bytes:
        return b"\x01" + vector(objects) + recipient

    def split(self, coin: bytes, *amounts: bytes) -> bytes:
        return b"\x02" + coin + vector(amounts)

    def merge(self, coin: bytes, *others: bytes) -> bytes:
        return b"\x03" + coin + vector(others)

    def publish(self, modules: Sequence[bytes], dependencies: Sequence[bytes]) -> bytes:
        return b"\x04" + vector([blob(m) for m in modules]) + vector(dependencies)

    def coins(self) -> list[Object]:
        return self.ledger.store.owned(self.address, "address", b"", 100, format_type(GAS_COIN))

    def data(
        self, inputs: Sequence[bytes], commands: Sequence[bytes], gas: Sequence[Object], budget: int = 500_000_000
    ) -> bytes:
        return b"".join((
            b"\x00\x00", vector(inputs), vector(commands), self.address,
            vector([self.reference(coin) for coin in gas]), self.address, u64(1_000), u64(budget), b"\x00",
        ))  # fmt: skip

    def sign(self, data: bytes) -> bytes:
        message = hashlib.blake2b(bytes(3) + data, digest_size=32).digest()
        return b"\x00" + self.key.sign(message) + self.public_key

    def run(self, inputs: Sequence[bytes], commands: Sequence[bytes], gas: Object, **options: int) -> Any:
        data = self.data(inputs, commands, [gas], **options)
        return proto.ExecutedTransaction.parse(self.ledger.execute(data, [self.sign(data)]))


@pytest.fixture
def clock() -> LedgerClock:
    return LedgerClock(NOW_MS)


@pytest.fixture
def open_ledger(tmp_path: Path, clock: LedgerClock) -> Iterator[Callable[[], Ledger]]:
    opened: list[Ledger] = []

    def open_() -> Ledger:
        if opened:
            opened.pop().store.close()
        opened.append(Ledger(Store(tmp_path / "ledger"), clock, pinned_digests(default_packages(), [])))
        return opened[-1]

    yield open_
    for ledger in opened:
        ledger.store.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    return open_ledger()


@pytest.fixture
def account(ledger: Ledger) -> Account:
    made = Account(ledger)
    for _ in range(3):
        ledger.mint(made.address, 10_000_000_000)
    return made


class LedgerProcess:
    """`python -m daas.devstack.ledger` over one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daas.devstack.ledger", "--state", str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def http(self, method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            decoded: dict[str, Any] = json.loads(answer.read())
            return decoded

    def fund(self, address: str) -> None:
        self.http("POST", self.ready["faucet"], {"FixedAmountRequest": {"recipient": address}})


@pytest.fixture
def ledger_process(tmp_path: Path) -> Iterator[LedgerProcess]:
    process = LedgerProcess(tmp_path / "state")
    yield process
    if process.process.poll() is None:
        process.stop()


@pytest.fixture
def seed() -> bytes:
    return os.urandom(32)
