"""Objects, transactions and checkpoints as encoded `sui.rpc.v2` messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.effects import Change, Effects
from daas.devstack.ledger.effects_bcs import ARGUMENT_KINDS, FAILURE_KINDS, effects_bcs, events_digest, hash_named
from daas.devstack.ledger.errors import CongestionError, ExecutionFailedError, MoveAbortError, MoveLocation
from daas.devstack.ledger.execution import Event
from daas.devstack.ledger.funds import accumulator_id, balance_of
from daas.devstack.ledger.objects import Object, Owner
from daas.devstack.ledger.program import Package, Program
from daas.devstack.ledger.rendering import rendered
from daas.devstack.ledger.store import Checkpoint
from daas.devstack.ledger.type_tags import Type, format_address, format_type
from daas.devstack.ledger.wire import base58, build, timestamp

_OWNER_KINDS = {"address": 1, "object": 2, "shared": 3, "immutable": 4}
_ID_OPERATIONS = {"none": 1, "created": 2, "deleted": 3}
_ABSENT, _EXISTS, _PACKAGE_WRITE, _ACCUMULATOR_WRITE = 1, 2, 3, 4


def owner_message(owner: Owner) -> bytes:
    """`Owner`."""
    return build(
        proto.Owner,
        kind=_OWNER_KINDS[owner.kind],
        address=format_address(owner.address) if owner.address else None,
        version=owner.shared_version if owner.kind == "shared" else None,
    )


def object_message(held: Object, program: Program | None = None) -> bytes:
    """`Object`, with all that a read mask may ask for of a Move object; its JSON if the program is given."""
    type_name = format_type(held.type)
    return build(
        proto.Object,
        object_id=format_address(held.id),
        version=held.version,
        digest=base58(held.digest),
        owner=owner_message(held.owner),
        object_type=type_name,
        has_public_transfer=held.public_transfer,
        contents=build(proto.Bcs, name=type_name, value=held.contents),
        previous_transaction=base58(held.previous),
        storage_rebate=held.storage_mist,
        json=None if program is None else rendered(program, held.type, held.contents),
        balance=held.balance,
    )


def package_message(package: Package, names: Sequence[str]) -> bytes:
    """`Object` of a package."""
    address = format_address(package.id)
    modules = [build(proto.Module, name=name, contents=code) for name, code in zip(names, package.modules, strict=True)]
    return build(
        proto.Object,
        object_id=address,
        version=package.version,
        digest=base58(package.digest),
        owner=owner_message(Owner("immutable")),
        object_type="package",
        package=build(
            proto.Package,
            storage_id=address,
            original_id=format_address(package.original),
            version=package.version,
            modules=modules,
            type_origins=[
                build(proto.TypeOrigin, module_name=module, datatype_name=name, package_id=format_address(origin))
                for module, name, origin in package.origins
            ],
        ),
        previous_transaction=base58(package.previous),
        storage_rebate=package.storage_mist,
    )


def _location(location: MoveLocation) -> bytes:
    return build(
        proto.MoveLocation,
        package=format_address(location.address),
        module=location.module,
        function=location.function_index,
        instruction=location.instruction,
        function_name=location.function,
    )


def error_message(error: ExecutionFailedError, command: int | None) -> bytes:
    """`ExecutionError`."""
    details: dict[str, Any] = {}
    if error.location is not None:
        code = error.code if isinstance(error, MoveAbortError) else None
        details["abort"] = build(proto.MoveAbort, abort_code=code, location=_location(error.location))
    elif error.kind == "COMMAND_ARGUMENT_ERROR":
        kind = ARGUMENT_KINDS.index(error.argument_kind or "TYPE_MISMATCH") + 1
        details["command_argument_error"] = build(proto.CommandArgumentError, argument=error.argument, kind=kind)
    elif error.kind == "TYPE_ARGUMENT_ERROR":
        details["type_argument_error"] = build(proto.TypeArgumentError, type_argument=error.argument, kind=2)
    elif isinstance(error, CongestionError):
        objects = [format_address(each) for each in error.objects]
        details["congested_objects"] = build(proto.CongestedObjects, objects=objects)
    return build(
        proto.ExecutionError,
        description=error.message,
        command=command,
        kind=FAILURE_KINDS.index(error.kind) + 1,
        **details,
    )


def change_message(change: Change) -> bytes:
    """`ChangedObject`."""
    before, after = change.before, change.after
    present = after or before
    return build(
        proto.ChangedObject,
        object_id=format_address(change.id),
        input_state=_EXISTS if before else _ABSENT,
        input_version=before.version if before else None,
        input_digest=base58(before.digest) if before else None,
        input_owner=owner_message(before.owner) if before else None,
        output_state=_EXISTS if after else _ABSENT,
        output_version=after.version if after else None,
        output_digest=base58(after.digest) if after else None,
        output_owner=owner_message(after.owner) if after else None,
        id_operation=_ID_OPERATIONS[change.operation],
        object_type=format_type(present.type) if present else None,
    )


def _package_change(package: Package) -> bytes:
    return build(
        proto.ChangedObject,
        object_id=format_address(package.id),
        input_state=_ABSENT,
        output_state=_PACKAGE_WRITE,
        output_version=package.version,
        output_digest=base58(package.digest),
        output_owner=owner_message(Owner("immutable")),
        id_operation=_ID_OPERATIONS["created"],
        object_type="package",
    )


def _funds_change(owner: bytes, coin_type: Type, amount: int) -> bytes:
    balance = format_type(balance_of(coin_type))
    return build(
        proto.ChangedObject,
        object_id=format_address(accumulator_id(owner, coin_type)),
        input_state=_ABSENT,
        output_state=_ACCUMULATOR_WRITE,
        id_operation=_ID_OPERATIONS["none"],
        accumulator_write=build(
            proto.AccumulatorWrite,
            address=format_address(owner),
            accumulator_type=balance,
            operation=1 if amount > 0 else 2,
            value_kind=1,
            integer_value=abs(amount),
        ),
    )


def effects_message(effects: Effects, epoch: int) -> tuple[bytes, bytes]:
    """`TransactionEffects`, and the digest of its BCS."""
    encoded = effects_bcs(effects, epoch)
    digest = hash_named("TransactionEffects", encoded)
    gas = effects.gas_used
    changed = [change_message(change) for change in effects.changes]
    ids = [change.id for change in effects.changes]
    error = effects.error
    message = build(
        proto.TransactionEffects,
        bcs=build(proto.Bcs, name="TransactionEffects", value=encoded),
        digest=base58(digest),
        version=2,
        status=build(
            proto.ExecutionStatus,
            success=error is None,
            error=None if error is None else error_message(error, effects.failed_command),
        ),
        epoch=epoch,
        gas_used=build(
            proto.GasCostSummary,
            computation_cost=gas.computation,
            storage_cost=gas.storage,
            storage_rebate=gas.rebate,
            non_refundable_storage_fee=gas.non_refundable,
        ),
        transaction_digest=base58(effects.digest),
        gas_object=None if effects.gas_object is None else changed[ids.index(effects.gas_object)],
        events_digest=base58(events_digest(effects.events)) if effects.events else None,
        dependencies=[base58(d) for d in effects.dependencies],
        lamport_version=effects.lamport,
        changed_objects=[
            *changed,
            *(_package_change(package) for package in effects.packages),
            *(_funds_change(*change) for change in effects.funds),
        ],
        unchanged_consensus_objects=[
            build(
                proto.UnchangedConsensusObject,
                kind=1,
                object_id=format_address(o.id),
                version=o.version,
                digest=base58(o.digest),
                object_type=format_type(o.type),
            )
            for o in effects.read
        ],
    )
    return message, digest


def event_message(event: Event, program: Program) -> bytes:
    """`Event`."""
    type_name = format_type(event.type)
    return build(
        proto.Event,
        package_id=format_address(event.package),
        module=event.module,
        sender=format_address(event.sender),
        event_type=type_name,
        contents=build(proto.Bcs, name=type_name, value=event.contents),
        json=rendered(program, event.type, event.contents),
    )


def events_message(events: Sequence[Event], program: Program) -> bytes | None:
    """`TransactionEvents`, None if there are none."""
    if not events:
        return None
    return build(
        proto.TransactionEvents,
        digest=base58(events_digest(events)),
        events=[event_message(event, program) for event in events],
    )


def executed_message(
    effects: Effects,
    effects_encoded: bytes,
    *,
    transaction: bytes | None,
    signatures: Sequence[bytes],
    checkpoint: int | None,
    timestamp_ms: int,
    program: Program,
) -> bytes:
    """`ExecutedTransaction`."""
    return build(
        proto.ExecutedTransaction,
        digest=base58(effects.digest),
        transaction=transaction,
        signatures=[
            build(proto.UserSignature, bcs=build(proto.Bcs, name="UserSignatureBytes", value=s)) for s in signatures
        ],
        effects=effects_encoded,
        events=events_message(effects.events, program),
        checkpoint=checkpoint,
        timestamp=timestamp(timestamp_ms),
        balance_changes=[
            build(proto.BalanceChange, address=format_address(owner), coin_type=format_type(coin), amount=str(amount))
            for owner, coin, amount in effects.balance_changes
        ],
        transaction_index=None if checkpoint is None else 0,
    )


def checkpoint_message(checkpoint: Checkpoint, previous: bytes | None, executed: bytes) -> bytes:
    """`Checkpoint` with its one transaction; there is no signature, since nobody but the operator vouches for it."""
    summary = build(
        proto.CheckpointSummary,
        bcs=build(proto.Bcs, name="CheckpointSummary", value=checkpoint.summary),
        digest=base58(checkpoint.digest),
        epoch=0,
        sequence_number=checkpoint.sequence,
        total_network_transactions=checkpoint.transactions_total,
        content_digest=base58(checkpoint.content_digest),
        previous_digest=base58(previous) if previous is not None else None,
        timestamp=timestamp(checkpoint.timestamp_ms),
    )
    contents = build(
        proto.CheckpointContents,
        bcs=build(proto.Bcs, name="CheckpointContents", value=checkpoint.contents),
        digest=base58(checkpoint.content_digest),
        version=1,
        transactions=[build(proto.CheckpointedTransactionInfo, transaction=base58(checkpoint.transaction_digest))],
    )
    return build(
        proto.Checkpoint,
        sequence_number=checkpoint.sequence,
        digest=base58(checkpoint.digest),
        summary=summary,
        contents=contents,
        transactions=[executed],
    )
