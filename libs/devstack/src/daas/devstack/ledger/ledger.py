"""The ledger: admits transactions as Sui does, executes them one after the other, and commits what they did."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from daas.devstack.ledger.binary import with_self_address
from daas.devstack.ledger.checkpoints import EPOCH, next_checkpoint
from daas.devstack.ledger.clock import LedgerClock
from daas.devstack.ledger.commands import CommandRunner, Slot
from daas.devstack.ledger.effects import Change, Effects, GasUsed, settle
from daas.devstack.ledger.errors import ExecutionFailedError, LedgerError, TransactionRefusedError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import BUDGET_MAX, BUDGET_MIN_UNITS, GAS_PRICE, Meter, storage_mist
from daas.devstack.ledger.objects import (
    CLOCK_ID,
    CLOCK_TYPE,
    Object,
    Owner,
    coin_contents,
    make_object,
    object_size,
)
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.records import effects_message, executed_message, transaction_message
from daas.devstack.ledger.signatures import verify_signatures
from daas.devstack.ledger.store import Checkpoint, Commit, Package, Store
from daas.devstack.ledger.transaction_data import (
    ObjectRef,
    OwnedInput,
    Publish,
    SharedInput,
    Transaction,
    read_transaction,
    transaction_digest,
)
from daas.devstack.ledger.type_tags import GAS_COIN, STD, SUI, format_address
from daas.devstack.ledger.wire import base58

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
    """

    def __init__(self, store: Store, clock: LedgerClock, pinned: Collection[bytes]) -> None:
        self.store = store
        self.clock = clock
        self.program = Program()
        self.packages: dict[bytes, Package] = {}
        self._pinned = frozenset(pinned)
        self._subscribers: set[asyncio.Queue[Checkpoint]] = set()
        latest = store.latest_checkpoint()
        self.latest = self._genesis() if latest is None else latest
        genesis = store.checkpoint(0)
        assert genesis is not None
        self.chain = genesis.digest
        self.genesis_ms = genesis.timestamp_ms
        for package in store.packages():
            self._load_package(package)

    # Reading

    def object(self, object_id: bytes) -> Object | None:
        """The present version of an object; the clock's is made up on the spot."""
        if object_id == CLOCK_ID:
            return self._clock_object()
        return self.store.object(object_id)

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
        inputs, payment = self._admit(transaction)
        effects, _ = self._run(transaction, digest, inputs, payment)
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
        )
        self._commit(checkpoint, digest, executed, effects)
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
        inputs, payment = self._admit(transaction, imaginary, checked=checked)
        effects, runner = self._run(transaction, digest, inputs, payment)
        encoded, _ = effects_message(effects, EPOCH)
        executed = executed_message(
            effects, encoded, transaction=None, signatures=(), checkpoint=None, timestamp_ms=self.clock.now_ms()
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
            checkpoint=checkpoint.sequence, timestamp_ms=checkpoint.timestamp_ms,
        )  # fmt: skip
        self._commit(checkpoint, digest, executed, effects)
        return coin.id

    # Admission

    def _admit(
        self, transaction: Transaction, imaginary: Sequence[Object] = (), *, checked: bool = True
    ) -> tuple[dict[bytes, Object], list[Object]]:
        if transaction.expires_epoch is not None and transaction.expires_epoch < EPOCH:
            raise TransactionRefusedError(f"Transaction expired: its last epoch was {transaction.expires_epoch}")
        if transaction.gas_price < GAS_PRICE:
            raise TransactionRefusedError(f"Gas price {transaction.gas_price} under reference gas price {GAS_PRICE}")
        least = BUDGET_MIN_UNITS * transaction.gas_price
        if not least <= transaction.budget <= BUDGET_MAX:
            raise TransactionRefusedError(
                f"Gas budget {transaction.budget} is not between the minimum {least} and the maximum {BUDGET_MAX}"
            )
        payment = list(imaginary) or [self._owned(ref, (transaction.payer,)) for ref in transaction.payment]
        if not payment:
            raise TransactionRefusedError("no gas coin: address-balance gas is not supported by the simulated ledger")
        for coin in payment:
            if coin.type != GAS_COIN or coin.owner.kind != "address":
                raise TransactionRefusedError(f"{format_address(coin.id)} is no SUI coin that can pay for gas")
        balance = sum(coin.balance or 0 for coin in payment)
        if balance < transaction.budget:
            raise TransactionRefusedError(
                f"Balance of gas objects {balance} is lower than the needed amount: {transaction.budget}"
            )
        inputs: dict[bytes, Object] = {}
        seen = {coin.id for coin in payment}
        if len(seen) != len(payment):
            raise TransactionRefusedError("Mutable object used more than once: a gas coin is listed twice")
        for entry in transaction.inputs:
            if isinstance(entry, OwnedInput):
                held = self._owned(entry.ref, (transaction.sender,), checked=checked)
            elif isinstance(entry, SharedInput):
                held = self._shared(entry)
            else:
                continue
            if held.id in seen:
                raise TransactionRefusedError(
                    f"Mutable object {format_address(held.id)} cannot appear more than one in one transaction"
                )
            seen.add(held.id)
            inputs[held.id] = held
        return inputs, payment

    def _owned(self, ref: ObjectRef, owners: Sequence[bytes], *, checked: bool = True) -> Object:
        name = format_address(ref.id)
        held = self.object(ref.id)
        if held is None:
            raise TransactionRefusedError(f"Could not find the referenced object {name} at version {ref.version}")
        if held.owner.kind == "shared":
            raise TransactionRefusedError(f"Shared object {name} was given as an owned one")
        if held.owner.kind == "object":
            raise TransactionRefusedError(f"Object {name} is owned by object {format_address(held.owner.address)}")
        if held.version != ref.version or held.digest != ref.digest:
            raise TransactionRefusedError(
                f"Object ID {name} Version {ref.version} Digest {base58(ref.digest)} is not available for consumption, "
                f"current version: {held.version}"
            )
        if checked and held.owner.kind == "address" and held.owner.address not in owners:
            raise TransactionRefusedError(
                f"Transaction was not signed by the correct sender: Object {name} is owned by account address "
                f"{format_address(held.owner.address)}, but given owner/signer address is {format_address(owners[0])}"
            )
        return held

    def _shared(self, entry: SharedInput) -> Object:
        name = format_address(entry.id)
        held = self.object(entry.id)
        if held is None:
            raise TransactionRefusedError(f"Could not find the referenced object {name}")
        if held.owner.kind != "shared":
            raise TransactionRefusedError(f"Object used as shared is not shared: {name}")
        if held.owner.shared_version != entry.shared_version:
            raise TransactionRefusedError(
                f"The shared object {name} has initial version {held.owner.shared_version}, not {entry.shared_version}"
            )
        if entry.mutable and entry.id == CLOCK_ID:
            raise TransactionRefusedError("The clock can be read only: ImmutableParameterExpectedError")
        return held

    # Execution

    def _run(
        self, transaction: Transaction, digest: bytes, inputs: dict[bytes, Object], payment: Sequence[Object]
    ) -> tuple[Effects, CommandRunner | None]:
        meter = Meter(transaction.budget // transaction.gas_price)
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
        spendable = sum(coin.balance or 0 for coin in payment) - transaction.budget
        gas = Slot([[[[payment[0].id]], [spendable]]], GAS_COIN)
        runner: CommandRunner | None = None
        error: ExecutionFailedError | None = None
        publishes = any(isinstance(command, Publish) for command in transaction.commands)
        callable_before = set(self.program.functions) if publishes else set()
        try:
            runner = CommandRunner(execution, transaction, inputs, gas, self._publish)
            runner.run()
            meter.check()
            effects = settle(execution, runner, transaction, inputs, payment, error=None)
        except ExecutionFailedError as failure:
            error = failure
        except (LedgerError, RecursionError) as failure:
            error = ExecutionFailedError("VM_VERIFICATION_OR_DESERIALIZATION_ERROR", str(failure))
        finally:
            if publishes:  # what is published becomes callable by the commit
                for key in set(self.program.functions) - callable_before:
                    self.program.functions.pop(key)
        if error is not None:
            meter.native_units = min(meter.native_units, transaction.budget // transaction.gas_price)
            effects = settle(execution, runner, transaction, inputs, payment, error=error)
        return effects, runner

    def _publish(self, command: Publish, execution: Execution) -> Package:
        digest = package_digest(command.modules, command.dependencies)
        if digest not in self._pinned:
            raise ExecutionFailedError(
                "SUI_MOVE_VERIFICATION_ERROR",
                f"package digest {digest.hex()} is not pinned: the simulated ledger has no bytecode verifier and takes "
                "known packages only",
            )
        if unknown := set(command.dependencies) - {STD, SUI}:
            raise ExecutionFailedError("PUBLISH_UPGRADE_MISSING_DEPENDENCY", f"{len(unknown)} unknown dependencies")
        package_id = execution.fresh_id()
        execution.new_ids.pop(package_id)  # a package is no Move object
        modules = tuple(with_self_address(code, package_id) for code in command.modules)
        self.program.load(modules)
        return Package(package_id, 1, digest, modules, execution.digest)

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
            effects, encoded, transaction=None, signatures=(), checkpoint=0, timestamp_ms=checkpoint.timestamp_ms
        )
        self.store.commit(Commit(checkpoint, digest, executed))
        return checkpoint

    def _commit(self, checkpoint: Checkpoint, digest: bytes, executed: bytes, effects: Effects) -> None:
        package = effects.packages[0] if effects.packages else None
        written = [change.after for change in effects.changes if change.after is not None]
        removed = [change.id for change in effects.changes if change.after is None]
        self.store.commit(Commit(checkpoint, digest, executed, written, removed, package))
        self.latest = checkpoint
        if package is not None:
            self._load_package(package)
        for queue in list(self._subscribers):
            if queue.full():
                self._subscribers.discard(queue)  # its reader finds out, and resumes by sequence number
            else:
                queue.put_nowait(checkpoint)

    def _load_package(self, package: Package) -> None:
        self.program.load(package.modules)
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


def _outputs(runner: CommandRunner | None) -> tuple[tuple[tuple[str, bytes], ...], ...]:
    if runner is None:
        return ()
    return tuple(tuple(runner.output(slot) for slot in results) for results in runner.results)


def package_digest(modules: Sequence[bytes], dependencies: Sequence[bytes]) -> bytes:
    """Sui's digest of a package: of the sorted digests of its modules and ids of its dependencies."""
    parts = sorted([*(hashlib.blake2b(code, digest_size=32).digest() for code in modules), *dependencies])
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()
