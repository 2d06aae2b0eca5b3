"""The loaded packages: linked functions, struct layouts and abilities, of the framework and of published modules."""

from __future__ import annotations

from typing import Any

import msgspec

from daas.devstack.ledger.binary import PUBLIC, FunctionDefinition, Module, Op, StructDefinition, read_module
from daas.devstack.ledger.charges import static_charge
from daas.devstack.ledger.encoding import Codec
from daas.devstack.ledger.errors import BytecodeError, LedgerError
from daas.devstack.ledger.gas import STORAGE_MIST_PER_BYTE
from daas.devstack.ledger.natives import FUNCTIONS, STRUCTS, NativeFunction
from daas.devstack.ledger.natives.registry import COPY, DROP, KEY, STORE
from daas.devstack.ledger.operand_types import ARITHMETIC, CASTS, SHIFTS, call_target, struct_target, typed
from daas.devstack.ledger.type_tags import Datatype, Parameter, Reference, Type, Vector, format_type, substitute

LinkedInstruction = tuple[int, Any, int]


class Function:
    """A function of a published module, ready to run."""

    __slots__ = (
        "address", "code", "constraints", "entry", "index", "local_count", "module", "name", "parameters", "public",
        "returns",
    )  # fmt: skip

    def __init__(self, definition: FunctionDefinition, storage: bytes | None = None) -> None:
        handle = definition.handle
        self.address = storage or handle.address
        self.module = handle.module
        self.name = handle.name
        self.parameters = handle.parameters
        self.returns = handle.returns
        self.constraints = handle.constraints
        self.index = definition.index
        self.public = definition.visibility == PUBLIC
        self.entry = definition.entry
        self.local_count = len(definition.locals)
        self.code: list[LinkedInstruction] = []


class CallSite:
    """One call instruction: the callee, how many operands it takes, its type arguments as the caller writes them."""

    __slots__ = ("arguments", "callee", "parameter_count")

    def __init__(self, callee: Function | NativeFunction, arguments: tuple[Type, ...]) -> None:
        self.callee = callee
        self.parameter_count = len(callee.parameters)
        self.arguments = arguments


class StructInfo(msgspec.Struct, frozen=True):
    """What the ledger knows of a struct: ability bits, which type parameters are phantom, its fields, and the abilities
    that its type parameters need.
    """

    abilities: int
    phantoms: tuple[bool, ...]
    fields: tuple[tuple[str, Type], ...]
    constraints: tuple[int, ...] = ()


class Package(msgspec.Struct, frozen=True):
    """A published package: its id, and its modules with the address of its first version filled in.

    `origins` lists the structs as (module, name, package that first defined it).
    """

    id: bytes
    version: int
    digest: bytes
    modules: tuple[bytes, ...]
    previous: bytes
    original: bytes
    origins: tuple[tuple[str, str, bytes], ...] = ()
    storage_mist: int = 0

    @property
    def size(self) -> int:
        """Bytes that reading it is charged for."""
        return self.storage_mist // STORAGE_MIST_PER_BYTE

    def origin_map(self) -> dict[tuple[str, str], bytes]:
        """The defining package by module and name."""
        return {(module, name): address for module, name, address in self.origins}


_PRIMITIVE_ABILITIES = COPY | DROP | STORE


class Program:
    """Everything that can be called and every struct that has a layout."""

    def __init__(self) -> None:
        self.functions: dict[tuple[bytes, str, str], Function | NativeFunction] = dict(FUNCTIONS)
        self.structs: dict[tuple[bytes, str, str], StructInfo] = {
            key: StructInfo(s.abilities, s.phantoms, s.fields) for key, s in STRUCTS.items()
        }
        self.modules: dict[tuple[bytes, str], Module] = {}
        self.originals: dict[bytes, bytes] = {}
        self._defining: dict[tuple[bytes, str, str], bytes] = {}
        self._layouts: dict[Datatype, tuple[Type, ...]] = {}
        self.codec = Codec(self)

    def fields(self, type_: Datatype) -> tuple[Type, ...]:
        """Types of a struct's fields, type arguments filled in.

        Raises:
            LedgerError: no such struct.
        """
        found = self._layouts.get(type_)
        if found is None:
            info = self.struct(type_)
            found = self._layouts[type_] = tuple(substitute(t, type_.arguments) for _, t in info.fields)
        return found

    def struct(self, type_: Datatype) -> StructInfo:
        """What is known of a struct.

        Raises:
            LedgerError: no such struct.
        """
        info = self.structs.get(type_.key)
        if info is None:
            raise LedgerError(f"no struct {format_type(type_)} on this ledger", reason="unknown-type")
        return info

    def function(self, address: bytes, module: str, name: str) -> Function | NativeFunction | None:
        """The function with this name, if there is one."""
        return self.functions.get((address, module, name))

    def abilities(self, type_: Type) -> int:
        """Ability bits of a concrete type: a struct's are limited by those of its non-phantom type arguments."""
        if isinstance(type_, str):
            return DROP if type_ == "signer" else _PRIMITIVE_ABILITIES
        if isinstance(type_, Vector):
            return self.abilities(type_.element) & _PRIMITIVE_ABILITIES
        if isinstance(type_, Reference):
            return COPY | DROP
        if isinstance(type_, Parameter):
            return 0
        info = self.struct(type_)
        bits = info.abilities
        for argument, phantom in zip(type_.arguments, info.phantoms, strict=True):
            if not phantom:
                inner = self.abilities(argument)
                bits &= inner | (KEY if inner & STORE else 0)
        return bits

    def defined(self, type_: Type) -> Type:
        """The type under the package that first defined it: later versions of that package name it too."""
        if isinstance(type_, Vector):
            return Vector(self.defined(type_.element))
        if isinstance(type_, Datatype):
            address = self._defining.get(type_.key, type_.address)
            return Datatype(address, type_.module, type_.name, tuple(self.defined(t) for t in type_.arguments))
        return type_

    def original(self, type_: Type) -> Type:
        """The type under the first version of the package that defines it."""
        if isinstance(type_, Vector):
            return Vector(self.original(type_.element))
        if isinstance(type_, Datatype):
            address = self.originals.get(type_.address, type_.address)
            return Datatype(address, type_.module, type_.name, tuple(self.original(t) for t in type_.arguments))
        return type_

    def load(self, package: Package) -> list[Module]:
        """Read and link the modules of one package, whose original address is already in the bytes.

        Raises:
            BytecodeError: a module can't be loaded, or needs a function that is not there.
        """
        origins = package.origin_map()
        modules = [read_module(code, origins) for code in package.modules]
        pending: list[tuple[Module, FunctionDefinition, Function]] = []
        self.originals[package.id] = package.original
        for module in modules:
            for definition in module.structs:
                handle = definition.handle
                self.structs[handle.address, handle.module, handle.name] = StructInfo(
                    handle.abilities,
                    tuple(phantom for _, phantom in handle.parameters),
                    definition.fields,
                    tuple(constraint for constraint, _ in handle.parameters),
                )
                self._defining[package.id, handle.module, handle.name] = handle.address
            for function_definition in module.functions:
                function = Function(function_definition, package.id)
                self.functions[function.address, function.module, function.name] = function
                pending.append((module, function_definition, function))
            self.modules[package.id, module.name] = module
        for module, function_definition, function in pending:
            function.code = self._link(module, function_definition, package.id)
        return modules

    def _link(self, module: Module, definition: FunctionDefinition, storage: bytes) -> list[LinkedInstruction]:
        linked: list[LinkedInstruction] = []
        for (op, operand), width in typed(module, definition):
            resolved: Any = operand
            if op in ARITHMETIC or op in CASTS:
                resolved = (1 << width) - 1
            elif op in SHIFTS:
                resolved = width
            elif isinstance(operand, tuple):
                resolved = (module.signatures[operand[0]][0], operand[1])
            elif op is Op.LD_CONST:
                type_, data = module.constants[operand]
                resolved = self.codec.decode(type_, data)
            elif op in {Op.CALL, Op.CALL_GENERIC}:
                resolved = self._call_site(module, op, operand, storage)
            elif op in {Op.PACK, Op.PACK_GENERIC, Op.UNPACK, Op.UNPACK_GENERIC}:
                resolved = len(_fields(struct_target(module, op, operand)[0]))
            elif op in {Op.MUT_BORROW_FIELD, Op.IMM_BORROW_FIELD}:
                resolved = module.field_handles[operand][1]
            elif op in {Op.MUT_BORROW_FIELD_GENERIC, Op.IMM_BORROW_FIELD_GENERIC}:
                resolved = module.field_instantiations[operand][0][1]
            constant_bytes = len(module.constants[operand][1]) if op is Op.LD_CONST else 0  # type: ignore[index]  # LD_CONST takes an index
            linked.append((int(_PLAIN.get(op, op)), resolved, static_charge(op, resolved, constant_bytes)))
        return linked

    def _call_site(self, module: Module, op: Op, operand: int, storage: bytes) -> CallSite:
        handle, arguments = call_target(module, op, operand)
        address = storage if handle.address == module.address else handle.address
        callee = self.functions.get((address, handle.module, handle.name))
        if callee is None:
            raise BytecodeError(
                f"{module.name} calls 0x{handle.address.hex().lstrip('0')}::{handle.module}::{handle.name}, "
                "which this ledger does not provide"
            )
        if callee.parameters != handle.parameters or callee.returns != handle.returns:
            raise BytecodeError(
                f"{module.name} calls {handle.module}::{handle.name} with another signature than it has"
            )
        return CallSite(callee, arguments)


def _fields(struct: StructDefinition) -> tuple[tuple[str, Type], ...]:
    return struct.fields


_PLAIN = {
    Op.MUT_BORROW_FIELD: Op.IMM_BORROW_FIELD,
    Op.MUT_BORROW_FIELD_GENERIC: Op.IMM_BORROW_FIELD,
    Op.IMM_BORROW_FIELD_GENERIC: Op.IMM_BORROW_FIELD,
    Op.MUT_BORROW_LOC: Op.IMM_BORROW_LOC,
    Op.VEC_MUT_BORROW: Op.VEC_IMM_BORROW,
    Op.CALL_GENERIC: Op.CALL,
    Op.PACK_GENERIC: Op.PACK,
    Op.UNPACK_GENERIC: Op.UNPACK,
}
"""Instructions that do the same once their operand is resolved."""
