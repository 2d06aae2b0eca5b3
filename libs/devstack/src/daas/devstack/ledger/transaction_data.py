"""Transactions as values, and their BCS reader: programmable transactions of `TransactionData::V1`."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from daas.devstack.ledger.encoding import Cursor
from daas.devstack.ledger.errors import LedgerError, TransactionRefusedError
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, Type

TRANSACTION_BYTES_MAX: Final = 128 * 1024
PURE_BYTES_MAX: Final = 16 * 1024
COMMANDS_MAX: Final = 1_024
ARGUMENTS_MAX: Final = 512
INPUTS_MAX: Final = 2_048
GAS_OBJECTS_MAX: Final = 256
_DIGEST_LENGTH: Final = 32
_EPOCH, _VALID_DURING = 1, 2


class ObjectRef(msgspec.Struct, frozen=True):
    """One exact version of an object."""

    id: bytes
    version: int
    digest: bytes


class Pure(msgspec.Struct, frozen=True):
    """An input of plain bytes, typed by its use."""

    value: bytes


class OwnedInput(msgspec.Struct, frozen=True):
    """An input object owned by the sender, or immutable."""

    ref: ObjectRef


class SharedInput(msgspec.Struct, frozen=True):
    """A shared input object."""

    id: bytes
    shared_version: int
    mutable: bool


class ReceivingInput(msgspec.Struct, frozen=True):
    """An object sent to another object's address, which that object's module may receive."""

    ref: ObjectRef


class WithdrawalInput(msgspec.Struct, frozen=True):
    """A claim on the address balance of the sender, or of the sponsor; `coin_type` is the T of `Balance<T>`."""

    amount: int
    coin_type: Type
    from_sponsor: bool = False


Input = Pure | OwnedInput | SharedInput | ReceivingInput | WithdrawalInput


class GasCoin(msgspec.Struct, frozen=True):
    """The coin that pays for the transaction."""


class InputArgument(msgspec.Struct, frozen=True):
    """The input at this index."""

    index: int


class ResultArgument(msgspec.Struct, frozen=True):
    """A result of an earlier command; without `nested`, the command must have exactly one."""

    command: int
    nested: int | None = None


Argument = GasCoin | InputArgument | ResultArgument


class MoveCall(msgspec.Struct, frozen=True):
    """Call a Move function."""

    package: bytes
    module: str
    function: str
    type_arguments: tuple[Type, ...]
    arguments: tuple[Argument, ...]


class TransferObjects(msgspec.Struct, frozen=True):
    """Give objects to an address."""

    objects: tuple[Argument, ...]
    address: Argument


class SplitCoins(msgspec.Struct, frozen=True):
    """Take new coins out of a coin."""

    coin: Argument
    amounts: tuple[Argument, ...]


class MergeCoins(msgspec.Struct, frozen=True):
    """Put coins into a coin."""

    coin: Argument
    merged: tuple[Argument, ...]


class Publish(msgspec.Struct, frozen=True):
    """Publish a package."""

    modules: tuple[bytes, ...]
    dependencies: tuple[bytes, ...]


class Upgrade(msgspec.Struct, frozen=True):
    """Publish the next version of a package, as a ticket of its upgrade capability allows."""

    modules: tuple[bytes, ...]
    dependencies: tuple[bytes, ...]
    package: bytes
    ticket: Argument


class MakeMoveVec(msgspec.Struct, frozen=True):
    """Make a vector of values; `element` may be left out when they are objects."""

    element: Type | None
    elements: tuple[Argument, ...]


Command = MoveCall | TransferObjects | SplitCoins | MergeCoins | Publish | MakeMoveVec | Upgrade


class ValidDuring(msgspec.Struct, frozen=True):
    """The window of epochs and the chain in which a transaction is valid; the nonce tells equal ones apart."""

    min_epoch: int | None
    max_epoch: int | None
    min_timestamp_ms: int | None
    max_timestamp_ms: int | None
    chain: bytes
    nonce: int


class Transaction(msgspec.Struct, frozen=True):
    """One programmable transaction with who pays for it."""

    inputs: tuple[Input, ...]
    commands: tuple[Command, ...]
    sender: bytes
    payment: tuple[ObjectRef, ...]
    payer: bytes
    gas_price: int
    budget: int
    expires_epoch: int | None = None
    valid_during: ValidDuring | None = None


def transaction_digest(data: bytes) -> bytes:
    """Sui's transaction digest of the BCS of a TransactionData."""
    return hashlib.blake2b(b"TransactionData::" + data, digest_size=32).digest()


def read_transaction(data: bytes) -> Transaction:
    """The transaction in the BCS of a TransactionData.

    Raises:
        TransactionRefusedError: malformed, over a limit of the protocol, or of a kind that users can't send.
    """
    if len(data) > TRANSACTION_BYTES_MAX:
        raise TransactionRefusedError(f"expected at most {TRANSACTION_BYTES_MAX} bytes, got {len(data)}")
    cursor = Cursor(data)
    try:
        transaction = _transaction(cursor)
        cursor.finish()
    except TransactionRefusedError:
        raise
    except (LedgerError, UnicodeDecodeError) as error:
        raise TransactionRefusedError(f"the bytes are no TransactionData: {error}") from error
    return check_limits(transaction)


def check_limits(transaction: Transaction) -> Transaction:
    """The transaction itself, if it keeps the protocol's limits.

    Raises:
        TransactionRefusedError: it does not.
    """
    counts = (
        ("inputs", len(transaction.inputs), INPUTS_MAX),
        ("commands", len(transaction.commands), COMMANDS_MAX),
        ("gas payment objects", len(transaction.payment), GAS_OBJECTS_MAX),
    )
    for name, count, most in counts:
        if count > most:
            raise TransactionRefusedError(f"Size limit exceeded: {name} is limited to {most}, got {count}")
    if not transaction.commands:
        raise TransactionRefusedError("Empty command list: a programmable transaction needs a command")
    for entry in transaction.inputs:
        if isinstance(entry, Pure) and len(entry.value) > PURE_BYTES_MAX:
            raise TransactionRefusedError(
                f"Size limit exceeded: maximum pure argument size is {PURE_BYTES_MAX}, got {len(entry.value)}"
            )
    return transaction


def _transaction(cursor: Cursor) -> Transaction:
    if cursor.uleb() != 0:
        raise TransactionRefusedError("expected TransactionData V1")
    if cursor.uleb() != 0:
        raise TransactionRefusedError("expected a programmable transaction: users can't send system transactions")
    inputs = tuple(_input(cursor) for _ in range(cursor.uleb()))
    commands = tuple(_command(cursor) for _ in range(cursor.uleb()))
    sender = cursor.take(ADDRESS_LENGTH)
    payment = tuple(_object_ref(cursor) for _ in range(cursor.uleb()))
    payer, price, budget = cursor.take(ADDRESS_LENGTH), cursor.integer(8), cursor.integer(8)
    expiration = cursor.uleb()
    if expiration > _VALID_DURING:
        raise TransactionRefusedError(f"expected an expiration of none, an epoch or a window, got variant {expiration}")
    return Transaction(
        inputs,
        commands,
        sender,
        payment,
        payer,
        price,
        budget,
        cursor.integer(8) if expiration == _EPOCH else None,
        _valid_during(cursor) if expiration == _VALID_DURING else None,
    )


def _valid_during(cursor: Cursor) -> ValidDuring:
    first, last, earliest, latest = (cursor.integer(8) if cursor.boolean() else None for _ in range(4))
    chain = cursor.blob()
    if len(chain) != _DIGEST_LENGTH:
        raise TransactionRefusedError(f"expected a chain identifier of 32 bytes, got {len(chain)}")
    return ValidDuring(first, last, earliest, latest, chain, cursor.integer(4))


def _object_ref(cursor: Cursor) -> ObjectRef:
    object_id, version = cursor.take(ADDRESS_LENGTH), cursor.integer(8)
    digest = cursor.blob()
    if len(digest) != _DIGEST_LENGTH:
        raise TransactionRefusedError(f"expected an object digest of 32 bytes, got {len(digest)}")
    return ObjectRef(object_id, version, digest)


def _input(cursor: Cursor) -> Input:
    kind = cursor.uleb()
    if kind == 0:
        return Pure(cursor.blob())
    if kind == 1:
        source = cursor.uleb()
        if source == 0:
            return OwnedInput(_object_ref(cursor))
        if source == 1:
            return SharedInput(cursor.take(ADDRESS_LENGTH), cursor.integer(8), cursor.boolean())
        if source == 2:
            return ReceivingInput(_object_ref(cursor))
        raise TransactionRefusedError(f"expected an owned, shared or receiving object, got variant {source}")
    if kind == 2:
        return _withdrawal(cursor)
    raise TransactionRefusedError(f"expected an input, got variant {kind}")


def _withdrawal(cursor: Cursor) -> WithdrawalInput:
    if (reservation := cursor.uleb()) != 0:
        raise TransactionRefusedError(f"expected a withdrawal of an amount, got variant {reservation}")
    amount = cursor.integer(8)
    if (kind := cursor.uleb()) != 0:
        raise TransactionRefusedError(f"expected a withdrawal of a balance, got variant {kind}")
    coin_type = cursor.type_tag()
    source = cursor.uleb()
    if source > 1:
        raise TransactionRefusedError(f"expected a withdrawal from the sender or the sponsor, got variant {source}")
    return WithdrawalInput(amount, coin_type, source == 1)


def _argument(cursor: Cursor) -> Argument:
    kind = cursor.uleb()
    if kind == 0:
        return GasCoin()
    if kind == 1:
        return InputArgument(cursor.integer(2))
    if kind == 2:
        return ResultArgument(cursor.integer(2))
    if kind == 3:
        return ResultArgument(cursor.integer(2), cursor.integer(2))
    raise TransactionRefusedError(f"expected an argument, got variant {kind}")


def _arguments(cursor: Cursor) -> tuple[Argument, ...]:
    count = cursor.uleb()
    if count > ARGUMENTS_MAX:
        raise TransactionRefusedError(f"Size limit exceeded: a command takes at most {ARGUMENTS_MAX} arguments")
    return tuple(_argument(cursor) for _ in range(count))


def _command(cursor: Cursor) -> Command:
    kind = cursor.uleb()
    if kind == 0:
        package, module, function = cursor.take(ADDRESS_LENGTH), cursor.string(), cursor.string()
        types = tuple(cursor.type_tag() for _ in range(cursor.uleb()))
        return MoveCall(package, module, function, types, _arguments(cursor))
    if kind == 1:
        return TransferObjects(_arguments(cursor), _argument(cursor))
    if kind == 2:
        return SplitCoins(_argument(cursor), _arguments(cursor))
    if kind == 3:
        return MergeCoins(_argument(cursor), _arguments(cursor))
    if kind == 4:
        modules = tuple(cursor.blob() for _ in range(cursor.uleb()))
        return Publish(modules, tuple(cursor.take(ADDRESS_LENGTH) for _ in range(cursor.uleb())))
    if kind == 5:
        element = cursor.type_tag() if cursor.boolean() else None
        return MakeMoveVec(element, _arguments(cursor))
    if kind == 6:
        modules = tuple(cursor.blob() for _ in range(cursor.uleb()))
        dependencies = tuple(cursor.take(ADDRESS_LENGTH) for _ in range(cursor.uleb()))
        return Upgrade(modules, dependencies, cursor.take(ADDRESS_LENGTH), _argument(cursor))
    raise TransactionRefusedError(f"expected a command, got variant {kind}")
