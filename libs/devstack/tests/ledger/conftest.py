"""A ledger in memory's reach, an account that signs for it, and a ledger in a process of its own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode
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
from daas.devstack.ledger.packages import package_digest
from daas.devstack.ledger.server import default_packages, pinned_digests
from daas.devstack.ledger.signatures import address_of
from daas.devstack.ledger.store import Store
from daas.devstack.ledger.type_tags import GAS_COIN, SUI, format_type, parse_address

sys.path.insert(0, str(Path(__file__).parent / "support"))  # helpers that several test files import

NOW_MS = 1_795_000_000_000


SUI_TAG = b"\x07" + SUI + b"\x03sui\x03SUI\x00"


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

    def upgrade(self, modules: Sequence[bytes], dependencies: Sequence[bytes], package: bytes, ticket: bytes) -> bytes:
        return b"\x06" + vector([blob(m) for m in modules]) + vector(dependencies) + package + ticket

    def receiving(self, held: Object) -> bytes:
        return b"\x01\x02" + self.reference(held)

    def withdrawal(self, amount: int, *, from_sponsor: bool = False) -> bytes:
        return b"\x02\x00" + u64(amount) + b"\x00" + SUI_TAG + bytes((from_sponsor,))

    def publish(self, modules: Sequence[bytes], dependencies: Sequence[bytes]) -> bytes:
        return b"\x04" + vector([blob(m) for m in modules]) + vector(dependencies)

    def coins(self) -> list[Object]:
        return self.ledger.store.owned(self.address, "address", b"", 100, format_type(GAS_COIN))

    def data(
        self,
        inputs: Sequence[bytes],
        commands: Sequence[bytes],
        gas: Sequence[Object],
        budget: int = 500_000_000,
        expiration: bytes = b"\x00",
    ) -> bytes:
        return b"".join((
            b"\x00\x00", vector(inputs), vector(commands), self.address,
            vector([self.reference(coin) for coin in gas]), self.address, u64(1_000), u64(budget), expiration,
        ))  # fmt: skip

    def valid_now(self, nonce: int = 0, *, epochs: tuple[int, int] = (0, 1), chain: bytes | None = None) -> bytes:
        bounds = b"".join(b"\x01" + u64(epoch) for epoch in epochs) + b"\x00\x00"
        return b"\x02" + bounds + b"\x20" + (chain or self.ledger.chain) + nonce.to_bytes(4, "little")

    def sign(self, data: bytes) -> bytes:
        message = hashlib.blake2b(bytes(3) + data, digest_size=32).digest()
        return b"\x00" + self.key.sign(message) + self.public_key

    def run(self, inputs: Sequence[bytes], commands: Sequence[bytes], gas: Object, budget: int = 500_000_000) -> Any:
        data = self.data(inputs, commands, [gas], budget)
        return proto.ExecutedTransaction.parse(self.ledger.execute(data, [self.sign(data)]))


def committed_package() -> tuple[list[bytes], list[bytes]]:
    """The modules and dependencies of the committed package."""
    (path,) = default_packages()
    built = json.loads(path.read_text())
    return [b64decode(code) for code in built["modules"]], [parse_address(d) for d in built["dependencies"]]


def next_version() -> tuple[list[bytes], list[bytes]]:
    """The same package with a higher number in the constant of `version`: what an upgrade without new code changes."""
    modules, dependencies = committed_package()
    first, second = (b"\x03\x08" + u64(number) for number in (1, 2))
    at = next(i for i, code in enumerate(modules) if b"version" in code and code.count(first) == 1 and len(code) < 200)
    modules[at] = modules[at].replace(first, second)
    return modules, dependencies


def next_version_digest() -> bytes:
    return package_digest(*next_version())


@pytest.fixture
def built_package() -> tuple[list[bytes], list[bytes]]:
    return committed_package()


@pytest.fixture
def upgraded_package() -> tuple[list[bytes], list[bytes], bytes]:
    return *next_version(), next_version_digest()


@pytest.fixture
def clock() -> LedgerClock:
    return LedgerClock(NOW_MS)


@pytest.fixture
def open_ledger(tmp_path: Path, clock: LedgerClock) -> Iterator[Callable[[], Ledger]]:
    opened: list[Ledger] = []

    def open_() -> Ledger:
        if opened:
            opened.pop().store.close()
        pinned = pinned_digests(default_packages(), [next_version_digest().hex()])
        opened.append(Ledger(Store(tmp_path / "ledger"), clock, pinned))
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
        with urllib.request.urlopen(request, timeout=60) as answer:
            decoded: dict[str, Any] = json.loads(answer.read())
            return decoded

    def fund(self, address: str) -> None:
        self.http("POST", self.ready["faucet"], {"FixedAmountRequest": {"recipient": address}})


@pytest.fixture(scope="session")
def start_ledger() -> Callable[[Path], LedgerProcess]:
    return LedgerProcess


@pytest.fixture
def ledger_process(tmp_path: Path) -> Iterator[LedgerProcess]:
    process = LedgerProcess(tmp_path / "state")
    yield process
    if process.process.poll() is None:
        process.stop()


@pytest.fixture
def seed() -> bytes:
    return os.urandom(32)
