"""The functions of the Move standard library and the Sui framework, as Python functions with declared signatures."""

from daas.devstack.ledger.natives import (
    coins,
    collections,
    crypto,
    dynamic_fields,
    funds,
    nitro,
    objects,
    standard,
    structs,
    text,
    transfers,
    vectors,
)
from daas.devstack.ledger.natives.registry import FUNCTIONS, STRUCTS, NativeFunction, NativeStruct

__all__ = [
    "FUNCTIONS",
    "STRUCTS",
    "NativeFunction",
    "NativeStruct",
    "coins",
    "collections",
    "crypto",
    "dynamic_fields",
    "funds",
    "nitro",
    "objects",
    "standard",
    "structs",
    "text",
    "transfers",
    "vectors",
]
