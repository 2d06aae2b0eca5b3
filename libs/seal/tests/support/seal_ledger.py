"""A ledger in this process with the test policy `access` published on it, and the view of it that key servers ask.

The policy is Move bytecode, interpreted: nothing here decides about access.
"""

import base64
import json
import os
from pathlib import Path

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as rpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.common import bcs
from daas.common.errors import NotFound, Unavailable
from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.store import Store
from daas.devstack.ledger.transaction_data import Transaction, read_transaction
from daas.devstack.ledger.wire import base58
from daas.ledger import Signer
from daas.ledger.models import ObjectReference
from daas.ledger.transaction import (
    Command,
    GasPayment,
    MoveCall,
    Publish,
    Pure,
    Result,
    TransferObjects,
    encode_transaction,
    sign_transaction,
)
from daas.seal import ApproveCall, InvalidPtb, Shared, build_ptb, parse_address
from daas.seal.server import Approval, Denial, PolicyRequest
from daas.seal.signatures import ED25519, address_of

ARTEFACT = json.loads((Path(__file__).parent / "access" / "access.json").read_text())
CLOCK = Shared(bytes(31) + b"\x06", 1)
#: The node's answers that mean: these calls can't be made at all.
NO_SUCH_CALL = {"FUNCTION_NOT_FOUND", "ARITY_MISMATCH", "COMMAND_ARGUMENT_ERROR", "TYPE_ARITY_MISMATCH"}
PRICE, BUDGET = 1_000, 1_000_000_000


class AccessLedger:
    """The ledger, one funded account, and the published policy. `package` is its id."""

    def __init__(self, state: Path) -> None:
        self.clock = LedgerClock()
        self.ledger = Ledger(Store(state), self.clock, [bytes.fromhex(ARTEFACT["digest"])])
        self._signer = Signer(os.urandom(32))
        modules = tuple(base64.b64decode(module) for module in ARTEFACT["modules"])
        publish = Publish(modules, tuple(ARTEFACT["dependencies"]))
        executed = self._run(publish, TransferObjects((Result(0),), self._signer.address))
        (package,) = [
            change.object_id
            for change in executed.effects.changed_objects
            if change.output_state == rpc.ChangedObjectOutputObjectState.PACKAGE_WRITE
        ]
        self.package = parse_address(package)

    def close(self) -> None:
        self.ledger.store.close()

    def create_access(self, members: list[bytes], *, not_before_ms: int = 0) -> Shared:
        """A shared list of members."""
        arguments = (Pure(bcs.vector(bytes, members)), Pure(bcs.u64(not_before_ms)))
        executed = self._run(MoveCall("0x" + self.package.hex(), "access", "create", arguments))
        (created,) = [
            change
            for change in executed.effects.changed_objects
            if change.output_owner is not None and change.output_owner.kind == rpc.OwnerOwnerKind.SHARED
        ]
        return Shared(parse_address(created.object_id), int(created.output_owner.version))

    def approve(self, access: Shared, *inner_ids: bytes) -> bytes:
        """The transaction that asks for keys under a list."""
        return build_ptb(
            self.package,
            [
                ApproveCall(module="access", function="seal_approve", inner_id=inner_id, arguments=(access, CLOCK))
                for inner_id in inner_ids
            ],
        )

    def simulate(self, transaction: Transaction) -> rpc.ExecutedTransaction:
        return rpc.ExecutedTransaction().parse(self.ledger.simulate(transaction).executed)

    def _run(self, *commands: Command) -> rpc.ExecutedTransaction:
        address = self._signer.address
        coin = self.ledger.object(self.ledger.mint(parse_address(address), 10 * BUDGET))
        assert coin is not None
        gas = ObjectReference("0x" + coin.id.hex(), coin.version, base58(coin.digest))
        data = encode_transaction(commands, {}, address, GasPayment((gas,), PRICE, BUDGET))
        signed = sign_transaction(data, self._signer)
        executed = rpc.ExecutedTransaction().parse(self.ledger.execute(signed.data, list(signed.signatures)))
        assert executed.effects.status.success, executed.effects.status
        return executed


class LedgerView:
    """A PolicyEvaluator over the ledger; `away` is a ledger that does not answer, `behind_ms` one that lags."""

    def __init__(self, ledger: AccessLedger, names: dict[str, bytes] | None = None) -> None:
        self._ledger = ledger
        self._names = names or {}
        self.aliased: set[bytes] = set()
        self.away = False
        self.behind_ms = 0
        self.evaluations = 0

    async def first_package_id(self, package_id: bytes) -> bytes:
        if self.away:
            raise Unavailable("the ledger is away", reason="away")
        if package_id != self._ledger.package:
            raise NotFound("no such package", reason="package-missing")
        return package_id

    async def package_of_name(self, name: str) -> bytes:
        if name not in self._names:
            raise NotFound("no such name", reason="name-missing")
        return self._names[name]

    async def has_aliases(self, address: bytes) -> bool:
        return address in self.aliased

    async def evaluate(self, request: PolicyRequest) -> Approval | Denial:
        if self.away:
            raise Unavailable("the ledger is away", reason="away")
        self.evaluations += 1
        # TransactionData V1 of a programmable transaction, no payment, no expiration.
        gas = bcs.uleb128(0) + request.sender + bcs.u64(PRICE) + bcs.u64(BUDGET // 2)
        data = bcs.uleb128(0) + bcs.uleb128(0) + request.ptb + request.sender + gas + bcs.uleb128(0)
        now = self._ledger.clock.now_ms() - self.behind_ms
        try:
            executed = self._ledger.simulate(read_transaction(data))
        except LedgerError as error:
            raise NotFound(error.message, reason="object-missing") from None
        status = executed.effects.status
        if status.success:
            return Approval(now)
        if status.error.kind.name in NO_SUCH_CALL:
            raise InvalidPtb(status.error.kind.name)
        code = str(status.error.abort.abort_code) if status.error.abort is not None else ""
        return Denial(ARTEFACT["aborts"].get(code, status.error.kind.name), now)


def user_address(seed: bytes) -> bytes:
    """Address of an Ed25519 seed."""
    return address_of(ED25519, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
