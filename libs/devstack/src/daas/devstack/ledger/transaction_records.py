"""What a transaction asks for, as encoded `sui.rpc.v2` messages."""

from __future__ import annotations

from typing import Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

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
    SharedInput,
    SplitCoins,
    Transaction,
    TransferObjects,
    WithdrawalInput,
)
from daas.devstack.ledger.type_tags import format_address, format_type
from daas.devstack.ledger.wire import base58, build

_PROGRAMMABLE: Final = 1
_PURE, _OWNED, _SHARED, _RECEIVING, _WITHDRAWAL = 1, 2, 3, 4, 5
_IMMUTABLE, _MUTABLE = 1, 2
_SENDER, _SPONSOR = 1, 2
_GAS, _INPUT, _RESULT = 1, 2, 3
_NO_EXPIRATION, _EPOCH, _VALID_DURING = 1, 2, 3


def _reference(ref: ObjectRef) -> bytes:
    return build(
        proto.ObjectReference, object_id=format_address(ref.id), version=ref.version, digest=base58(ref.digest)
    )


def transaction_message(transaction: Transaction, data: bytes, digest: bytes) -> bytes:
    """`Transaction` with its BCS."""
    return build(
        proto.Transaction,
        bcs=build(proto.Bcs, name="TransactionData", value=data),
        digest=base58(digest),
        version=1,
        kind=_kind(transaction),
        sender=format_address(transaction.sender),
        gas_payment=build(
            proto.GasPayment,
            objects=[_reference(ref) for ref in transaction.payment],
            owner=format_address(transaction.payer),
            price=transaction.gas_price,
            budget=transaction.budget,
        ),
        expiration=_expiration(transaction),
    )


def _kind(transaction: Transaction) -> bytes:
    return build(
        proto.TransactionKind,
        kind=_PROGRAMMABLE,
        programmable_transaction=build(
            proto.ProgrammableTransaction,
            inputs=[_input(entry) for entry in transaction.inputs],
            commands=[_command(command) for command in transaction.commands],
        ),
    )


def _expiration(transaction: Transaction) -> bytes:
    window = transaction.valid_during
    if window is not None:
        return build(
            proto.TransactionExpiration,
            kind=_VALID_DURING,
            epoch=window.max_epoch,
            min_epoch=window.min_epoch,
            chain=base58(window.chain),
            nonce=window.nonce,
        )
    if transaction.expires_epoch is not None:
        return build(proto.TransactionExpiration, kind=_EPOCH, epoch=transaction.expires_epoch)
    return build(proto.TransactionExpiration, kind=_NO_EXPIRATION)


def _input(entry: Input) -> bytes:
    if isinstance(entry, Pure):
        return build(proto.Input, kind=_PURE, pure=entry.value)
    if isinstance(entry, SharedInput):
        return build(
            proto.Input,
            kind=_SHARED,
            object_id=format_address(entry.id),
            version=entry.shared_version,
            mutable=entry.mutable,
            mutability=_MUTABLE if entry.mutable else _IMMUTABLE,
        )
    if isinstance(entry, WithdrawalInput):
        claim = build(
            proto.FundsWithdrawal,
            amount=entry.amount,
            coin_type=format_type(entry.coin_type),
            source=_SPONSOR if entry.from_sponsor else _SENDER,
        )
        return build(proto.Input, kind=_WITHDRAWAL, funds_withdrawal=claim)
    assert isinstance(entry, OwnedInput | ReceivingInput)
    return build(
        proto.Input,
        kind=_OWNED if isinstance(entry, OwnedInput) else _RECEIVING,
        object_id=format_address(entry.ref.id),
        version=entry.ref.version,
        digest=base58(entry.ref.digest),
    )


def _argument(argument: Argument) -> bytes:
    if isinstance(argument, GasCoin):
        return build(proto.Argument, kind=_GAS)
    if isinstance(argument, InputArgument):
        return build(proto.Argument, kind=_INPUT, input=argument.index)
    return build(proto.Argument, kind=_RESULT, result=argument.command, subresult=argument.nested)


def _arguments(arguments: tuple[Argument, ...]) -> list[bytes]:
    return [_argument(argument) for argument in arguments]


def _command(command: Command) -> bytes:
    if isinstance(command, MoveCall):
        call = build(
            proto.MoveCall,
            package=format_address(command.package),
            module=command.module,
            function=command.function,
            type_arguments=[format_type(t) for t in command.type_arguments],
            arguments=_arguments(command.arguments),
        )
        return build(proto.Command, move_call=call)
    if isinstance(command, TransferObjects):
        transfer = build(proto.TransferObjects, objects=_arguments(command.objects), address=_argument(command.address))
        return build(proto.Command, transfer_objects=transfer)
    if isinstance(command, SplitCoins):
        split = build(proto.SplitCoins, coin=_argument(command.coin), amounts=_arguments(command.amounts))
        return build(proto.Command, split_coins=split)
    if isinstance(command, MergeCoins):
        merge = build(proto.MergeCoins, coin=_argument(command.coin), coins_to_merge=_arguments(command.merged))
        return build(proto.Command, merge_coins=merge)
    if isinstance(command, MakeMoveVec):
        element = None if command.element is None else format_type(command.element)
        vector = build(proto.MakeMoveVector, element_type=element, elements=_arguments(command.elements))
        return build(proto.Command, make_move_vector=vector)
    dependencies = [format_address(d) for d in command.dependencies]
    if isinstance(command, Publish):
        publish = build(proto.Publish, modules=list(command.modules), dependencies=dependencies)
        return build(proto.Command, publish=publish)
    upgrade = build(
        proto.Upgrade,
        modules=list(command.modules),
        dependencies=dependencies,
        package=format_address(command.package),
        ticket=_argument(command.ticket),
    )
    return build(proto.Command, upgrade=upgrade)
