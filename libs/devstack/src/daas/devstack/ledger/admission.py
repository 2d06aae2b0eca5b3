"""What is refused before execution: gas, validity, and inputs that are not there, not the sender's, or not current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from daas.devstack.ledger.checkpoints import EPOCH
from daas.devstack.ledger.effects import Payment
from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.funds import reservation_of
from daas.devstack.ledger.gas import BUDGET_MAX, BUDGET_MIN_UNITS, GAS_PRICE
from daas.devstack.ledger.objects import CLOCK_ID, Object
from daas.devstack.ledger.transaction_data import (
    ObjectRef,
    OwnedInput,
    ReceivingInput,
    SharedInput,
    Transaction,
    ValidDuring,
    WithdrawalInput,
)
from daas.devstack.ledger.type_tags import GAS_COIN, SUI_TYPE, Type, format_address, format_type
from daas.devstack.ledger.wire import base58

_EPOCHS_MAX: Final = 1  # a window of validity spans the present epoch and the next


class Admitted(msgspec.Struct, frozen=True):
    """The objects of an admitted transaction."""

    inputs: dict[bytes, Object]
    receivable: dict[bytes, Object]
    payment: Payment


class Admission:
    """Checks transactions against the present state.

    Args:
        chain: digest of the genesis checkpoint.
        find: the present version of an object.
        funds: what an address holds of a coin type (canonical form) without coins.
    """

    def __init__(
        self, chain: bytes, find: Callable[[bytes], Object | None], funds: Callable[[bytes, str], int]
    ) -> None:
        self._chain = chain
        self._find = find
        self._funds = funds

    def admit(self, transaction: Transaction, imaginary: Sequence[Object] = (), *, checked: bool = True) -> Admitted:
        """The transaction's objects.

        Args:
            transaction: what is asked for.
            imaginary: coins that pay in a simulation.
            checked: False lets a simulation use the objects of others.

        Raises:
            TransactionRefusedError: with the reason, in the words of Sui's full nodes where clients look at them.
        """
        self._check_validity(transaction)
        _check_gas_limits(transaction)
        payment = Payment(tuple(imaginary)) if imaginary else self._payment(transaction)
        if payment.coins or payment.reserved:
            balance = payment.spendable
            if balance < transaction.budget:
                raise TransactionRefusedError(
                    f"Balance of gas objects {balance} is lower than the needed amount: {transaction.budget}"
                )
        self._check_funds(transaction, payment)
        inputs: dict[bytes, Object] = {}
        receivable: dict[bytes, Object] = {}
        seen = {coin.id for coin in payment.coins}
        if len(seen) != len(payment.coins):
            raise TransactionRefusedError("Mutable object used more than once: a gas coin is listed twice")
        for entry in transaction.inputs:
            if isinstance(entry, OwnedInput):
                held = self._owned(entry.ref, (transaction.sender,), checked=checked)
            elif isinstance(entry, SharedInput):
                held = self._shared(entry)
            elif isinstance(entry, ReceivingInput):
                held = receivable[entry.ref.id] = self._receivable(entry.ref)
            else:
                continue
            if held.id in seen:
                raise TransactionRefusedError(
                    f"Mutable object {format_address(held.id)} cannot appear more than one in one transaction"
                )
            seen.add(held.id)
            if held.id not in receivable:
                inputs[held.id] = held
        return Admitted(inputs, receivable, payment)

    def _check_validity(self, transaction: Transaction) -> None:
        if transaction.expires_epoch is not None and transaction.expires_epoch < EPOCH:
            raise TransactionRefusedError(f"Transaction expired: its last epoch was {transaction.expires_epoch}")
        window = transaction.valid_during
        if window is None:
            return
        if window.min_timestamp_ms is not None or window.max_timestamp_ms is not None:
            raise TransactionRefusedError("Timestamp-based transaction expiration is not yet supported")
        if window.min_epoch is None or window.max_epoch is None:
            raise TransactionRefusedError("Both min_epoch and max_epoch must be specified")
        if not 0 <= window.max_epoch - window.min_epoch <= _EPOCHS_MAX:
            raise TransactionRefusedError("max_epoch must be at most min_epoch + 1")
        if not window.min_epoch <= EPOCH <= window.max_epoch:
            raise TransactionRefusedError(
                f"Transaction expired: valid from epoch {window.min_epoch} to {window.max_epoch}, this is epoch {EPOCH}"
            )
        if window.chain != self._chain:
            raise TransactionRefusedError(
                f"Invalid chain identifier: expected {base58(self._chain)}, got {base58(window.chain)}"
            )

    def _payment(self, transaction: Transaction) -> Payment:
        coins: list[Object] = []
        reserved = 0
        for ref in transaction.payment:
            amount = reservation_of(ref, transaction.payer, self._chain, EPOCH)
            if amount is not None:
                reserved += amount
                continue
            coin = self._owned(ref, (transaction.payer,))
            if coin.type != GAS_COIN or coin.owner.kind != "address":
                raise TransactionRefusedError(f"{format_address(coin.id)} is no SUI coin that can pay for gas")
            coins.append(coin)
        if reserved and coins:
            raise TransactionRefusedError("the simulated ledger takes gas from coins or from the address balance")
        if not coins and not isinstance(transaction.valid_during, ValidDuring):
            raise TransactionRefusedError("Address balance gas payments require ValidDuring expiration")
        return Payment(tuple(coins), reserved)

    def _check_funds(self, transaction: Transaction, payment: Payment) -> None:
        wanted: dict[tuple[bytes, Type], int] = {}
        for entry in transaction.inputs:
            if isinstance(entry, WithdrawalInput):
                if entry.amount == 0:
                    raise TransactionRefusedError("Invalid withdraw reservation: the amount must be above zero")
                if entry.from_sponsor and transaction.payer == transaction.sender:
                    raise TransactionRefusedError("Invalid withdraw reservation: there is no sponsor to take it from")
                owner = transaction.payer if entry.from_sponsor else transaction.sender
                wanted[owner, entry.coin_type] = wanted.get((owner, entry.coin_type), 0) + entry.amount
        if not payment.coins:
            key = (transaction.payer, SUI_TYPE)
            wanted[key] = wanted.get(key, 0) + max(payment.reserved, transaction.budget)
        for (owner, coin_type), amount in wanted.items():
            held = self._funds(owner, format_type(coin_type))
            if held < amount:
                raise TransactionRefusedError(
                    f"Invalid withdraw reservation: the address balance of {format_address(owner)} in "
                    f"{format_type(coin_type)} is {held}, less than the requested {amount}"
                )

    def _current(self, ref: ObjectRef) -> Object:
        name = format_address(ref.id)
        held = self._find(ref.id)
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
        return held

    def _owned(self, ref: ObjectRef, owners: Sequence[bytes], *, checked: bool = True) -> Object:
        held = self._current(ref)
        if checked and held.owner.kind == "address" and held.owner.address not in owners:
            raise TransactionRefusedError(
                f"Transaction was not signed by the correct sender: Object {format_address(ref.id)} is owned by "
                f"account address {format_address(held.owner.address)}, but given owner/signer address is "
                f"{format_address(owners[0])}"
            )
        return held

    def _receivable(self, ref: ObjectRef) -> Object:
        held = self._current(ref)
        if held.owner.kind != "address":
            raise TransactionRefusedError(f"Object {format_address(ref.id)} is immutable: it can't be received")
        return held

    def _shared(self, entry: SharedInput) -> Object:
        name = format_address(entry.id)
        held = self._find(entry.id)
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


def _check_gas_limits(transaction: Transaction) -> None:
    if transaction.gas_price < GAS_PRICE:
        raise TransactionRefusedError(f"Gas price {transaction.gas_price} under reference gas price {GAS_PRICE}")
    least = BUDGET_MIN_UNITS * transaction.gas_price
    if not least <= transaction.budget <= BUDGET_MAX:
        raise TransactionRefusedError(
            f"Gas budget {transaction.budget} is not between the minimum {least} and the maximum {BUDGET_MAX}"
        )
