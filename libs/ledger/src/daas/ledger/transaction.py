"""Programmable transactions: commands and inputs as values, their BCS (TransactionData V1), digest and signature.

The encoding is that of the Sui protocol (sui-types, `transaction.rs`); a test decodes it with pysui's own BCS classes.
"""

from collections.abc import Callable, Sequence

import msgspec

from daas.common import bcs, merkle
from daas.common.errors import InvalidInput
from daas.ledger.address import format_digest, parse_address, parse_digest
from daas.ledger.models import ObjectReference, SharedReference, SignedTransaction
from daas.ledger.signer import Signer

#: Protocol limit: the transaction as a whole.
MAX_TRANSACTION_BYTES = 128 * 1024
#: Protocol limit: one pure argument.
MAX_PURE_BYTES = 16 * 1024


class Pure(msgspec.Struct, frozen=True):
    """A plain value, BCS."""

    value: bytes


class Object(msgspec.Struct, frozen=True):
    """An object by its id: shared or owned is for the client to find out. `mutable` matters for shared ones."""

    object_id: str
    mutable: bool = False


class Result(msgspec.Struct, frozen=True):
    """What an earlier command returned."""

    command: int


class GasCoin(msgspec.Struct, frozen=True):
    """The coin that pays for the transaction, after the budget has been set aside."""


Argument = Pure | Object | Result | GasCoin


class MoveCall(msgspec.Struct, frozen=True):
    """A call of a function; `package` is an address, `types` are BCS of type tags."""

    package: str
    module: str
    function: str
    arguments: tuple[Argument, ...]
    types: tuple[bytes, ...] = ()


class Publish(msgspec.Struct, frozen=True):
    """Publishes modules (own address 0x0); its result is the UpgradeCap."""

    modules: tuple[bytes, ...]
    dependencies: tuple[str, ...]


class Upgrade(msgspec.Struct, frozen=True):
    """Publishes the next version of `package` (own address 0x0), as a ticket allows; its result is a receipt."""

    modules: tuple[bytes, ...]
    dependencies: tuple[str, ...]
    package: str
    ticket: Argument


class SplitCoins(msgspec.Struct, frozen=True):
    """Takes new coins of these amounts (MIST) out of a coin; its results are the new coins."""

    coin: Argument
    amounts_mist: tuple[int, ...]


class TransferObjects(msgspec.Struct, frozen=True):
    """Hands objects to an address."""

    objects: tuple[Argument, ...]
    recipient: str


Command = MoveCall | Publish | Upgrade | SplitCoins | TransferObjects
Reference = ObjectReference | SharedReference


class Window(msgspec.Struct, frozen=True):
    """When a transaction without coins may run: in `epoch` and the next one, on one chain.

    Attributes:
        chain: digest of the genesis checkpoint, 32 bytes.
        nonce: tells transactions apart that are equal otherwise, u32.
    """

    epoch: int
    chain: bytes
    nonce: int


class GasPayment(msgspec.Struct, frozen=True):
    """Which coins pay, at which price (MIST per unit), and at most how much (MIST).

    Attributes:
        coins: none where the sender's address balance pays, which takes a `window`.
    """

    coins: tuple[ObjectReference, ...]
    price: int
    budget: int
    window: Window | None = None


def object_ids(commands: Sequence[Command]) -> dict[str, bool]:
    """The objects that the commands name, and whether any of them changes each."""
    named: dict[str, bool] = {}
    for command in commands:
        if isinstance(command, MoveCall):
            for argument in command.arguments:
                if isinstance(argument, Object):
                    named[argument.object_id] = named.get(argument.object_id, False) or argument.mutable
    return named


class _Inputs:
    """Collects the inputs in order of use: an object once, since the protocol refuses it twice; values as they come."""

    def __init__(self, references: dict[str, Reference], mutable: dict[str, bool]) -> None:
        self._references = references
        self._mutable = mutable
        self._encoded: list[bytes] = []
        self._objects: dict[str, int] = {}

    def encode(self) -> bytes:
        return bcs.vector(bytes, self._encoded)

    def argument(self, argument: Argument) -> bytes:
        """BCS of Argument: 0 gas coin, 1 input, 2 result."""
        if isinstance(argument, GasCoin):
            return bcs.uleb128(0)
        if isinstance(argument, Result):
            return bcs.uleb128(2) + bcs.u16(argument.command)
        if isinstance(argument, Pure):
            if len(argument.value) > MAX_PURE_BYTES:
                raise InvalidInput(
                    f"an argument has at most {MAX_PURE_BYTES} bytes, not {len(argument.value)}", reason="argument-size"
                )
            index = self._add(bcs.uleb128(0) + bcs.bytes_(argument.value))
        elif argument.object_id in self._objects:
            index = self._objects[argument.object_id]
        else:
            index = self._add(bcs.uleb128(1) + self._object(argument.object_id))
            self._objects[argument.object_id] = index
        return bcs.uleb128(1) + bcs.u16(index)

    def _add(self, encoded: bytes) -> int:
        self._encoded.append(encoded)
        return len(self._encoded) - 1

    def _object(self, object_id: str) -> bytes:
        reference = self._references[object_id]
        if isinstance(reference, SharedReference):
            return (
                bcs.uleb128(1)
                + parse_address(reference.object_id)
                + bcs.u64(reference.initial_version)
                + bcs.boolean(self._mutable[object_id])
            )
        return bcs.uleb128(0) + _object_reference(reference)


def _object_reference(reference: ObjectReference) -> bytes:
    return parse_address(reference.object_id) + bcs.u64(reference.version) + bcs.bytes_(parse_digest(reference.digest))


def _command(command: Command, argument: Callable[[Argument], bytes]) -> bytes:
    if isinstance(command, MoveCall):
        return (
            bcs.uleb128(0)
            + parse_address(command.package)
            + bcs.string(command.module)
            + bcs.string(command.function)
            + bcs.vector(bytes, command.types)
            + bcs.vector(argument, command.arguments)
        )
    if isinstance(command, SplitCoins):
        amounts = [Pure(bcs.u64(amount)) for amount in command.amounts_mist]
        return bcs.uleb128(2) + argument(command.coin) + bcs.vector(argument, amounts)
    if isinstance(command, TransferObjects):
        recipient = Pure(parse_address(command.recipient))
        return bcs.uleb128(1) + bcs.vector(argument, command.objects) + argument(recipient)
    modules = bcs.vector(bcs.bytes_, command.modules) + bcs.vector(parse_address, command.dependencies)
    if isinstance(command, Upgrade):
        return bcs.uleb128(6) + modules + parse_address(command.package) + argument(command.ticket)
    return bcs.uleb128(4) + modules


def _expiration(window: Window | None) -> bytes:
    """BCS of TransactionExpiration: none, or ValidDuring two epochs, without times, on this chain."""
    if window is None:
        return bcs.uleb128(0)
    epochs = bcs.option(bcs.u64, window.epoch) + bcs.option(bcs.u64, window.epoch + 1)
    times = bcs.option(bcs.u64, None) + bcs.option(bcs.u64, None)
    return bcs.uleb128(2) + epochs + times + bcs.bytes_(window.chain) + bcs.u32(window.nonce)


def spends_gas_coin(commands: Sequence[Command]) -> bool:
    """Whether a command takes money out of the coin that pays: then there must be one."""
    return any(isinstance(command, SplitCoins) and isinstance(command.coin, GasCoin) for command in commands)


def spent_mist(commands: Sequence[Command]) -> int:
    """What the commands take out of the gas coin, beside gas."""
    return sum(
        sum(command.amounts_mist)
        for command in commands
        if isinstance(command, SplitCoins) and isinstance(command.coin, GasCoin)
    )


def encode_transaction(
    commands: Sequence[Command], references: dict[str, Reference], sender: str, gas: GasPayment
) -> bytes:
    """BCS of TransactionData V1.

    Args:
        commands: in the order of execution.
        references: every object that the commands name, by id.
        sender: who signs and pays.
        gas: what pays.

    Raises:
        InvalidInput: `transaction-size`, `argument-size`.
    """
    inputs = _Inputs(references, object_ids(commands))
    encoded_commands = bcs.vector(lambda command: _command(command, inputs.argument), commands)
    data = (
        bcs.uleb128(0)  # TransactionData::V1
        + bcs.uleb128(0)  # TransactionKind::ProgrammableTransaction
        + inputs.encode()
        + encoded_commands
        + parse_address(sender)
        + bcs.vector(_object_reference, gas.coins)
        + parse_address(sender)
        + bcs.u64(gas.price)
        + bcs.u64(gas.budget)
        + _expiration(gas.window)
    )
    if len(data) > MAX_TRANSACTION_BYTES:
        raise InvalidInput(
            f"a transaction has at most {MAX_TRANSACTION_BYTES} bytes, not {len(data)}", reason="transaction-size"
        )
    return data


def transaction_digest(data: bytes) -> str:
    """base58 of blake2b-256("TransactionData::" || BCS)."""
    return format_digest(merkle.digest(b"TransactionData::" + data))


def sign_transaction(data: bytes, signer: Signer) -> SignedTransaction:
    """The transaction with its signature and the digest by which it will be known."""
    return SignedTransaction(data=data, signatures=(signer.sign_transaction(data),), digest=transaction_digest(data))
