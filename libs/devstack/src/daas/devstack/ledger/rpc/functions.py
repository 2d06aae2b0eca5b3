"""Move functions as `FunctionDescriptor` messages."""

from __future__ import annotations

from typing import Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto

from daas.devstack.ledger.natives.registry import COPY, DROP, KEY, STORE, NativeFunction
from daas.devstack.ledger.program import Function, StructInfo
from daas.devstack.ledger.type_tags import Datatype, Parameter, Reference, Type, Vector, format_address
from daas.devstack.ledger.wire import build

_BODY_TYPES: Final = {
    "address": 1, "bool": 2, "u8": 3, "u16": 4, "u32": 5, "u64": 6, "u128": 7, "u256": 8,
}  # fmt: skip
_VECTOR, _DATATYPE, _PARAMETER = 9, 10, 11
_PRIVATE, _PUBLIC = 1, 2
_STRUCT = 1
_ABILITIES: Final = ((COPY, 1), (DROP, 2), (STORE, 3), (KEY, 4))


def function_message(function: Function | NativeFunction) -> bytes:
    """`FunctionDescriptor` of a function."""
    if isinstance(function, NativeFunction):
        type_parameters = [build(proto.TypeParameter) for _ in function.type_parameters]
    else:
        type_parameters = [
            build(proto.TypeParameter, constraints=[number for bit, number in _ABILITIES if constraint & bit])
            for constraint in function.constraints
        ]
    return build(
        proto.FunctionDescriptor,
        name=function.name,
        visibility=_PUBLIC if function.public else _PRIVATE,
        is_entry=function.entry,
        type_parameters=type_parameters,
        parameters=[_signature(t) for t in function.parameters],
        returns=[_signature(t) for t in function.returns],
    )


def datatype_message(type_: Datatype, info: StructInfo, package: bytes) -> bytes:
    """`DatatypeDescriptor` of a struct, as it is in one version of its package."""
    constraints = info.constraints or tuple(0 for _ in info.phantoms)
    return build(
        proto.DatatypeDescriptor,
        type_name=f"{format_address(package)}::{type_.module}::{type_.name}",
        defining_id=format_address(type_.address),
        module=type_.module,
        name=type_.name,
        abilities=[number for bit, number in _ABILITIES if info.abilities & bit],
        type_parameters=[
            build(
                proto.TypeParameter,
                constraints=[number for bit, number in _ABILITIES if constraint & bit],
                is_phantom=phantom,
            )
            for constraint, phantom in zip(constraints, info.phantoms, strict=True)
        ],
        kind=_STRUCT,
        fields=[
            build(proto.FieldDescriptor, name=name, position=position, type=_body(field))
            for position, (name, field) in enumerate(info.fields)
        ],
    )


def _signature(type_: Type) -> bytes:
    if isinstance(type_, Reference):
        return build(proto.OpenSignature, reference=2 if type_.mutable else 1, body=_body(type_.target))
    return build(proto.OpenSignature, body=_body(type_))


def _body(type_: Type) -> bytes:
    if isinstance(type_, str):
        return build(proto.OpenSignatureBody, type=_BODY_TYPES[type_])
    if isinstance(type_, Vector):
        return build(proto.OpenSignatureBody, type=_VECTOR, type_parameter_instantiation=[_body(type_.element)])
    if isinstance(type_, Parameter):
        return build(proto.OpenSignatureBody, type=_PARAMETER, type_parameter=type_.index)
    assert isinstance(type_, Datatype)
    return build(
        proto.OpenSignatureBody,
        type=_DATATYPE,
        type_name=f"{format_address(type_.address)}::{type_.module}::{type_.name}",
        type_parameter_instantiation=[_body(t) for t in type_.arguments],
    )
