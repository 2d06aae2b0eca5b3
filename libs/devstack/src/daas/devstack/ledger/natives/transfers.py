"""`sui::transfer`: giving objects to addresses, sharing and freezing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.devstack.ledger.natives.registry import AbortError, Ref, copy_value
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.objects import IMMUTABLE, Owner
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
SHARED_NOT_NEW: Final = 0  # ESharedNonNewObject
SHARED: Final = Owner("shared")  # the version it is shared at is known when the transaction ends

transfer_module = framework_module("sui::transfer")


@transfer_module.function("public fun transfer<T>(T, address)")
@transfer_module.function("public fun public_transfer<T>(T, address)")
def _transfer(execution: Execution, types: Types, value: Any, recipient: bytes) -> None:
    execution.place(types[0], value, Owner("address", recipient))


@transfer_module.function("public fun share_object<T>(T)")
@transfer_module.function("public fun public_share_object<T>(T)")
def _share_object(execution: Execution, types: Types, value: Any) -> None:
    object_id = value[0][0][0]
    if object_id not in execution.new_ids and object_id not in execution.shared_inputs:
        raise AbortError(SHARED_NOT_NEW, "transfer::share_object_impl")
    execution.place(types[0], value, SHARED)


@transfer_module.function("public fun receive<T>(&mut UID, Receiving<T>): T")
@transfer_module.function("public fun public_receive<T>(&mut UID, Receiving<T>): T")
def _receive(execution: Execution, types: Types, parent: Ref, receiving: Any) -> Any:
    return execution.receive(parent.get()[0][0], receiving[0][0], receiving[1], types[0])


@transfer_module.function("public fun receiving_object_id<T>(&Receiving<T>): ID")
def _receiving_object_id(_execution: Execution, _types: Types, receiving: Ref) -> Any:
    return copy_value(receiving.get()[0])


@transfer_module.function("public fun freeze_object<T>(T)")
@transfer_module.function("public fun public_freeze_object<T>(T)")
def _freeze_object(execution: Execution, types: Types, value: Any) -> None:
    execution.place(types[0], value, IMMUTABLE)
