"""Transactions given as protobuf messages, as simulation takes them: resolved to the same values as their BCS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.gas import BUDGET_MAX, GAS_PRICE
from daas.devstack.ledger.objects import Object
from daas.devstack.ledger.transaction_data import (
    Argument,
    Command,
    GasCoin,
    Input,
    InputArgument,
    MakeMoveVec,
    MergeCoins,
    MoveCall,
    ObjectRef,
    OwnedInput,
    Publish,
    Pure,
    ReceivingInput,
    ResultArgument,
    SharedInput,
    SplitCoins,
    Transaction,
    TransferObjects,
    Upgrade,
    ValidDuring,
    WithdrawalInput,
    check_limits,
    read_transaction,
)
from daas.devstack.ledger.type_tags import parse_address, parse_type
from daas.devstack.ledger.wire import unbase58

Lookup = Callable[[bytes], Object | None]
_GAS, _INPUT, _RESULT = 1, 2, 3
_PURE: Final = 1
_RECEIVING: Final = 4
_WITHDRAWAL: Final = 5
_SPONSOR: Final = 2
_VALID_DURING: Final = 3
_IMMUTABLE: Final = 1


def transaction_of(message: Any, lookup: Lookup) -> Transaction:
    """The transaction in a `sui.rpc.v2.Transaction`, by its BCS if that is there.

    Raises:
        TransactionRefusedError: something is missing or can't be resolved.
    """
    if message is None:
        raise TransactionRefusedError("expected a transaction", field="transaction")
    if message.bcs is not None and message.bcs.value:
        return read_transaction(message.bcs.value)
    programmable = message.kind.programmable_transaction if message.kind is not None else None
    if programmable is None:
        raise TransactionRefusedError("expected a programmable transaction", field="transaction.kind")
    if not message.sender:
        raise TransactionRefusedError("expected a sender", field="transaction.sender")
    sender = parse_address(message.sender)
    gas = message.gas_payment
    return check_limits(
        Transaction(
            inputs=tuple(_input(entry, lookup) for entry in programmable.inputs),
            commands=tuple(_command(command) for command in programmable.commands),
            sender=sender,
            payment=tuple(_reference(ref, lookup) for ref in gas.objects) if gas is not None else (),
            payer=parse_address(gas.owner) if gas is not None and gas.owner else sender,
            gas_price=(gas.price if gas is not None else None) or GAS_PRICE,
            budget=(gas.budget if gas is not None else None) or BUDGET_MAX,
            valid_during=_valid_during(message.expiration),
        )
    )


def _valid_during(expiration: Any) -> ValidDuring | None:
    if expiration is None or int(expiration.kind or 0) != _VALID_DURING:
        return None
    return ValidDuring(
        expiration.min_epoch, expiration.epoch, None, None, unbase58(expiration.chain or ""), expiration.nonce or 0
    )


def _reference(ref: Any, lookup: Lookup) -> ObjectRef:
    object_id = parse_address(ref.object_id or "")
    held = lookup(object_id)
    if held is None:
        raise TransactionRefusedError(f"Could not find the referenced object {ref.object_id}")
    return ObjectRef(object_id, ref.version or held.version, unbase58(ref.digest) if ref.digest else held.digest)


def _input(entry: Any, lookup: Lookup) -> Input:
    kind = int(entry.kind or 0)
    if kind == _PURE or (kind == 0 and entry.pure is not None):
        return Pure(entry.pure or b"")
    if kind == _WITHDRAWAL or entry.funds_withdrawal is not None:
        claim = entry.funds_withdrawal
        if claim is None:
            raise TransactionRefusedError("expected a withdrawal in the input")
        coin_type = parse_type(claim.coin_type or "0x2::sui::SUI")
        return WithdrawalInput(claim.amount or 0, coin_type, int(claim.source or 0) == _SPONSOR)
    if not entry.object_id:
        raise TransactionRefusedError("expected bytes, an object or a withdrawal in each input")
    if kind == _RECEIVING:
        return ReceivingInput(_reference(entry, lookup))
    object_id = parse_address(entry.object_id)
    held = lookup(object_id)
    if held is None:
        raise TransactionRefusedError(f"Could not find the referenced object {entry.object_id}")
    if held.owner.kind != "shared":
        return OwnedInput(_reference(entry, lookup))
    mutable = entry.mutable
    if mutable is None:
        mutable = int(entry.mutability or 0) != _IMMUTABLE
    return SharedInput(object_id, entry.version or held.owner.shared_version, bool(mutable))


def _argument(argument: Any) -> Argument:
    if argument is None:
        raise TransactionRefusedError("expected an argument")
    kind = int(argument.kind or 0)
    if kind == _GAS:
        return GasCoin()
    if kind == _INPUT:
        return InputArgument(argument.input or 0)
    if kind == _RESULT:
        return ResultArgument(argument.result or 0, argument.subresult)
    raise TransactionRefusedError(f"expected an argument, got kind {kind}")


def _arguments(arguments: Any) -> tuple[Argument, ...]:
    return tuple(_argument(argument) for argument in arguments)


def _command(command: Any) -> Command:
    if (call := command.move_call) is not None:
        return MoveCall(
            parse_address(call.package or ""),
            call.module or "",
            call.function or "",
            tuple(parse_type(text) for text in call.type_arguments),
            _arguments(call.arguments),
        )
    if (transfer := command.transfer_objects) is not None:
        return TransferObjects(_arguments(transfer.objects), _argument(transfer.address))
    if (split := command.split_coins) is not None:
        return SplitCoins(_argument(split.coin), _arguments(split.amounts))
    if (merge := command.merge_coins) is not None:
        return MergeCoins(_argument(merge.coin), _arguments(merge.coins_to_merge))
    if (publish := command.publish) is not None:
        return Publish(tuple(publish.modules), tuple(parse_address(d) for d in publish.dependencies))
    if (vector := command.make_move_vector) is not None:
        element = parse_type(vector.element_type) if vector.element_type else None
        return MakeMoveVec(element, _arguments(vector.elements))
    if (upgrade := command.upgrade) is not None:
        return Upgrade(
            tuple(upgrade.modules),
            tuple(parse_address(d) for d in upgrade.dependencies),
            parse_address(upgrade.package or ""),
            _argument(upgrade.ticket),
        )
    raise TransactionRefusedError("expected a command")


__all__ = ["proto", "transaction_of"]
