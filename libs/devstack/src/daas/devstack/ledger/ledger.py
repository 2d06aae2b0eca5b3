"""The ledger: admits transactions as Sui does, executes them one after the other, and commits what they did."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Final, NoReturn

import msgspec

from daas.devstack.ledger.admission import Admission, Admitted
from daas.devstack.ledger.checkpoints import EPOCH, next_checkpoint
from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.commands import CommandRunner
from daas.devstack.ledger.effects import Change, Effects, GasUsed, Payment, settle
from daas.devstack.ledger.errors import CongestionError, ExecutionFailedError, LedgerError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.facts import facts_of
from daas.devstack.ledger.filters import Facts
from daas.devstack.ledger.gas import BUDGET_MAX, GAS_PRICE, READ_INTERNAL_PER_BYTE, Meter, storage_mist
from daas.devstack.ledger.objects import (
    CLOCK_ID,
    CLOCK_TYPE,
    Object,
    Owner,
    coin_contents,
    make_object,
    object_size,
)
from daas.devstack.ledger.packages import Publisher
from daas.devstack.ledger.program import Package, Program
from daas.devstack.ledger.records import effects_message, executed_message
from daas.devstack.ledger.signatures import verify_signatures
from daas.devstack.ledger.slots import Slot
from daas.devstack.ledger.store import Checkpoint, Commit, Store
from daas.devstack.ledger.transaction_data import (
    MoveCall,
    Publish,
    SharedInput,
    Transaction,
    Upgrade,
    WithdrawalInput,
    read_transaction,
    transaction_digest,
)
from daas.devstack.ledger.transaction_records import transaction_message
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, GAS_COIN

SUBSCRIPTION_QUEUE_MAX: Final = 10_000
SIMULATED_BALANCE: Final = 1_000_000_000_000_000
_NO_GAS: Final = GasUsed(0, 0, 0, 0)


class Simulation(msgspec.Struct, frozen=True):
    """What a transaction would do: the encoded record, and each command's results as (type, BCS)."""

    executed: bytes
    outputs: tuple[tuple[tuple[str, bytes], ...], ...]


class Ledger:
    """A *simulated* ledger: one operator, no consensus. Not safe for use from several threads.

    Args:
        store: the state, opened.
        clock: where time comes from.
        pinned: digests of the packages that may be published; nothing else is ever executed.

    Attributes:
        congested: so many of the next transactions that change shared objects are cancelled, as a network does it where
            too many want the same object; for tests.
    """

    def __init__(self, store: Store, clock: LedgerClock, pinned: Collection[bytes]) -> None:
        self.store = store
        self.clock = clock
        self.program = Program()
        self.packages: dict[bytes, Package] = {}
        self.congested = 0
        self._publisher = Publisher(pinned, self.packages)
        self._subscribers: set[asyncio.Queue[Checkpoint]] = set()
        latest = store.latest_checkpoint()
        self.latest = self._genesis() if latest is None else latest
        genesis = store.checkpoint(0)
        assert genesis is not None
        self.chain = genesis.digest
        self.genesis_ms = genesis.timestamp_ms
        self._admission = Admission(self.chain, self.object, store.funds)
        for package in store.packages():
            self._load_package(package)

    # Reading

    def object(self, object_id: bytes) -> Object | None:
        """The present version of an object; the clock's is made up on the spot."""
        if object_id == CLOCK_ID:
            return self._clock_object()
        return self.store.object(object_id)

    def object_at(self, object_id: bytes, version: int) -> Object | None:
        """One version of an object, the present or a past one."""
        held = self.object(object_id)
        return held if held is not None and held.version == version else self.store.past_object(object_id, version)

    def subscribe(self) -> asyncio.Queue[Checkpoint]:
        """A queue of checkpoints from now on; one that is not emptied in time ends when it is full."""
        queue: asyncio.Queue[Checkpoint] = asyncio.Queue(SUBSCRIPTION_QUEUE_MAX)
        self._subscribers.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Checkpoint]) -> None:
        """End a subscription."""
        self._subscribers.discard(queue)

    def is_subscribed(self, queue: asyncio.Queue[Checkpoint]) -> bool:
        """False once a subscriber was too slow."""
        return queue in self._subscribers

    # Executing

    def execute(self, data: bytes, signatures: Sequence[bytes]) -> bytes:
        """Execute signed transaction bytes; the record. The same bytes again give the same record and change nothing.

        Raises:
            TransactionRefusedError: refused before execution.
        """
        transaction = read_transaction(data)
        verify_signatures(data, signatures, [transaction.sender, transaction.payer])
        digest = transaction_digest(data)
        known = self.store.executed(digest)
        if known is not None:
            return known
        admitted = self._admission.admit(transaction)
        cancelled = self.congested > 0 and any(isinstance(i, SharedInput) and i.mutable for i in transaction.inputs)
        self.congested -= cancelled
        effects, _ = self._run(transaction, digest, admitted, cancelled=cancelled)
        encoded, effects_digest = effects_message(effects, EPOCH)
        checkpoint = next_checkpoint(
            self.latest,
            transaction_digest=digest,
            effects_digest=effects_digest,
            signatures=tuple(signatures),
            gas_used=effects.gas_used,
            timestamp_ms=self.clock.now_ms(),
        )
        executed = executed_message(
            effects,
            encoded,
            transaction=transaction_message(transaction, data, digest),
            signatures=signatures,
            checkpoint=checkpoint.sequence,
            timestamp_ms=checkpoint.timestamp_ms,
            program=self.program,
        )
        self._commit(checkpoint, digest, executed, effects, facts_of(transaction, effects))
        return executed

    def simulate(self, transaction: Transaction, *, checked: bool = True) -> Simulation:
        """Execute without committing. A transaction without payment is given an imaginary coin.

        Args:
            transaction: what to execute.
            checked: False lets anybody see what would happen with objects of others, as node operators allow it.

        Raises:
            TransactionRefusedError: refused before execution.
        """
        digest = hashlib.blake2b(b"simulation" + msgspec.msgpack.encode(repr(transaction)), digest_size=32).digest()
        budget = transaction.budget or BUDGET_MAX
        transaction = msgspec.structs.replace(transaction, budget=budget, gas_price=transaction.gas_price or GAS_PRICE)
        imaginary: list[Object] = []
        if not transaction.payment:
            coin = _coin(hashlib.blake2b(digest, digest_size=32).digest(), 1, transaction.payer, SIMULATED_BALANCE)
            imaginary.append(coin)
        effects, runner = self._run(transaction, digest, self._admission.admit(transaction, imaginary, checked=checked))
        encoded, _ = effects_message(effects, EPOCH)
        executed = executed_message(
            effects,
            encoded,
            transaction=None,
            signatures=(),
            checkpoint=None,
            timestamp_ms=self.clock.now_ms(),
            program=self.program,
        )
        return Simulation(executed, _outputs(runner) if effects.error is None else ())

    def mint(self, recipient: bytes, amount: int) -> bytes:
        """Give an address a new coin, out of nothing; the coin's id. The faucet's transaction carries no signature."""
        digest = hashlib.blake2b(
            b"Faucet::" + self.chain + self.latest.sequence.to_bytes(8, "little"), digest_size=32
        ).digest()
        coin = _coin(hashlib.blake2b(b"\xf1" + digest + bytes(8), digest_size=32).digest(), 1, recipient, amount)
        coin = make_object(
            coin.id, 1, coin.owner, coin.type, coin.contents,
            previous=digest, storage_mist=storage_mist(object_size(coin.type, coin.contents)), public_transfer=True,
        )  # fmt: skip
        effects = Effects(
            digest=digest, error=None, failed_command=None, gas_used=_NO_GAS, gas_object=coin.id, lamport=1,
            changes=(Change(coin.id, None, coin, "created"),), read=(), events=(), packages=(), dependencies=(),
            balance_changes=((recipient, GAS_COIN.arguments[0], amount),),
        )  # fmt: skip
        encoded, effects_digest = effects_message(effects, EPOCH)
        checkpoint = next_checkpoint(
            self.latest, transaction_digest=digest, effects_digest=effects_digest, signatures=(),
            gas_used=_NO_GAS, timestamp_ms=self.clock.now_ms(),
        )  # fmt: skip
        executed = executed_message(
            effects, encoded, transaction=None, signatures=(),
            checkpoint=checkpoint.sequence, timestamp_ms=checkpoint.timestamp_ms, program=self.program,
        )  # fmt: skip
        self._commit(checkpoint, digest, executed, effects, facts_of(None, effects))
        return coin.id

    # Execution

    def _run(
        self, transaction: Transaction, digest: bytes, admitted: Admitted, *, cancelled: bool = False
    ) -> tuple[Effects, CommandRunner | None]:
        meter = Meter(transaction.budget // transaction.gas_price)
        inputs, payment = admitted.inputs, admitted.payment
        execution = Execution(
            self.program,
            self.object,
            sender=transaction.sender,
            sponsor=transaction.payer if transaction.payer != transaction.sender else None,
            digest=digest,
            epoch=EPOCH,
            epoch_start_ms=self.genesis_ms,
            gas_price=transaction.gas_price,
            meter=meter,
        )
        execution.shared_inputs = frozenset(i for i, o in inputs.items() if o.owner.kind == "shared")
        execution.receivable = admitted.receivable
        execution.funds = {
            (transaction.payer if entry.from_sponsor else transaction.sender, entry.coin_type): 0
            for entry in transaction.inputs
            if isinstance(entry, WithdrawalInput)
        }
        runner: CommandRunner | None = None
        error: ExecutionFailedError | None = None
        loads = any(isinstance(command, Publish | Upgrade) for command in transaction.commands)
        functions, structs = (dict(self.program.functions), dict(self.program.structs)) if loads else ({}, {})
        try:
            if cancelled:
                _cancel(transaction)
            meter.charge(READ_INTERNAL_PER_BYTE * self._bytes_read(transaction, admitted))
            gas = _gas_slot(payment, transaction.budget)
            runner = CommandRunner(
                execution, transaction, inputs, self._publisher, gas=gas, gas_is_reserved=payment.reserved > 0
            )
            runner.run()
            meter.check()
            effects = settle(execution, runner, transaction, inputs, payment, error=None)
        except ExecutionFailedError as failure:
            error = failure
        except (LedgerError, RecursionError) as failure:
            error = ExecutionFailedError("VM_VERIFICATION_OR_DESERIALIZATION_ERROR", str(failure))
        finally:
            if loads:  # what is published becomes callable by the commit
                self.program.functions, self.program.structs = functions, structs
        if error is not None:
            effects = settle(execution, runner, transaction, inputs, payment, error=error)
        return effects, runner

    def _bytes_read(self, transaction: Transaction, admitted: Admitted) -> int:
        objects = (*admitted.inputs.values(), *admitted.receivable.values(), *admitted.payment.coins)
        called = {command.package for command in transaction.commands if isinstance(command, MoveCall)}
        packages = [self.packages[package] for package in called if package in self.packages]
        return sum(object_size(o.type, o.contents) for o in objects) + sum(p.size for p in packages)

    # Committing

    def _genesis(self) -> Checkpoint:
        digest = os.urandom(32)  # the chain's identity: another state directory is another chain
        checkpoint = next_checkpoint(
            None, transaction_digest=digest, effects_digest=bytes(32), signatures=(),
            gas_used=_NO_GAS, timestamp_ms=self.clock.now_ms(),
        )  # fmt: skip
        effects = Effects(
            digest=digest, error=None, failed_command=None, gas_used=_NO_GAS, gas_object=CLOCK_ID, lamport=1,
            changes=(Change(CLOCK_ID, None, _clock(1, checkpoint.timestamp_ms), "created"),), read=(), events=(),
            packages=(), dependencies=(), balance_changes=(),
        )  # fmt: skip
        encoded, _ = effects_message(effects, EPOCH)
        executed = executed_message(
            effects,
            encoded,
            transaction=None,
            signatures=(),
            checkpoint=0,
            timestamp_ms=checkpoint.timestamp_ms,
            program=self.program,
        )
        self.store.commit(Commit(checkpoint, digest, executed, facts_of(None, effects)))
        return checkpoint

    def _commit(self, checkpoint: Checkpoint, digest: bytes, executed: bytes, effects: Effects, facts: Facts) -> None:
        self.store.commit(
            Commit(
                checkpoint,
                digest,
                executed,
                facts,
                written=[change.after for change in effects.changes if change.after is not None],
                replaced=[change.before for change in effects.changes if change.before is not None],
                removed=[change.id for change in effects.changes if change.after is None],
                packages=effects.packages,
                funds=effects.funds,
            )
        )
        self.latest = checkpoint
        for package in effects.packages:
            self._load_package(package)
        for queue in list(self._subscribers):
            if queue.full():
                self._subscribers.discard(queue)  # its reader finds out, and resumes by sequence number
            else:
                queue.put_nowait(checkpoint)

    def _load_package(self, package: Package) -> None:
        self.program.load(package)
        self.packages[package.id] = package

    def _clock_object(self) -> Object:
        return _clock(self.latest.sequence + 1, self.clock.now_ms())


def _clock(version: int, now_ms: int) -> Object:
    return make_object(
        CLOCK_ID, version, Owner("shared", shared_version=1), CLOCK_TYPE, coin_contents(CLOCK_ID, now_ms),
        previous=bytes(32), storage_mist=0, public_transfer=False,
    )  # fmt: skip


def _coin(object_id: bytes, version: int, owner: bytes, amount: int) -> Object:
    return make_object(
        object_id, version, Owner("address", owner), GAS_COIN, coin_contents(object_id, amount),
        previous=bytes(32), storage_mist=0, public_transfer=True,
    )  # fmt: skip


def _cancel(transaction: Transaction) -> NoReturn:
    shared = [entry.id for entry in transaction.inputs if isinstance(entry, SharedInput) and entry.mutable]
    raise CongestionError(shared)


def _gas_slot(payment: Payment, budget: int) -> Slot | None:
    """The gas coin as commands see it: what pays for gas at worst is not there to be spent."""
    if not payment.coins and not payment.reserved:
        return None
    gas_id = payment.coins[0].id if payment.coins else bytes(ADDRESS_LENGTH)
    return Slot([[[[gas_id]], [payment.spendable - budget]]], GAS_COIN)


def _outputs(runner: CommandRunner | None) -> tuple[tuple[tuple[str, bytes], ...], ...]:
    if runner is None:
        return ()
    return tuple(tuple(runner.output(slot) for slot in results) for results in runner.results)
