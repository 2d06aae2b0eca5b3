"""Reader of Move module bytes, versions 6 and 7 of the published binary format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from daas.devstack.ledger.encoding import Cursor
from daas.devstack.ledger.errors import BytecodeError, LedgerError
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, Datatype, Parameter, Reference, Type, Vector

MAGIC: Final = b"\xa1\x1c\xeb\x0b"
VERSIONS: Final = (6, 7)
ENTRY_FLAG: Final = 0x04
NATIVE_FLAG: Final = 0x02
PUBLIC: Final = 1
MODULE_BYTES_MAX: Final = 100 * 1024  # Sui's limit on a whole package


class Op(IntEnum):
    """Instructions by their number in the binary format."""

    POP = 0x01
    RET = 0x02
    BR_TRUE = 0x03
    BR_FALSE = 0x04
    BRANCH = 0x05
    LD_U64 = 0x06
    LD_CONST = 0x07
    LD_TRUE = 0x08
    LD_FALSE = 0x09
    COPY_LOC = 0x0A
    MOVE_LOC = 0x0B
    ST_LOC = 0x0C
    MUT_BORROW_LOC = 0x0D
    IMM_BORROW_LOC = 0x0E
    MUT_BORROW_FIELD = 0x0F
    IMM_BORROW_FIELD = 0x10
    CALL = 0x11
    PACK = 0x12
    UNPACK = 0x13
    READ_REF = 0x14
    WRITE_REF = 0x15
    ADD = 0x16
    SUB = 0x17
    MUL = 0x18
    MOD = 0x19
    DIV = 0x1A
    BIT_OR = 0x1B
    BIT_AND = 0x1C
    XOR = 0x1D
    OR = 0x1E
    AND = 0x1F
    NOT = 0x20
    EQ = 0x21
    NEQ = 0x22
    LT = 0x23
    GT = 0x24
    LE = 0x25
    GE = 0x26
    ABORT = 0x27
    NOP = 0x28
    FREEZE_REF = 0x2E
    SHL = 0x2F
    SHR = 0x30
    LD_U8 = 0x31
    LD_U128 = 0x32
    CAST_U8 = 0x33
    CAST_U64 = 0x34
    CAST_U128 = 0x35
    MUT_BORROW_FIELD_GENERIC = 0x36
    IMM_BORROW_FIELD_GENERIC = 0x37
    CALL_GENERIC = 0x38
    PACK_GENERIC = 0x39
    UNPACK_GENERIC = 0x3A
    VEC_PACK = 0x40
    VEC_LEN = 0x41
    VEC_IMM_BORROW = 0x42
    VEC_MUT_BORROW = 0x43
    VEC_PUSH_BACK = 0x44
    VEC_POP_BACK = 0x45
    VEC_UNPACK = 0x46
    VEC_SWAP = 0x47
    LD_U16 = 0x48
    LD_U32 = 0x49
    CAST_U16 = 0x4B
    CAST_U32 = 0x4C
    LD_U256 = 0x4A
    CAST_U256 = 0x4D


_NO_OPERAND: Final = frozenset({
    Op.POP, Op.RET, Op.LD_TRUE, Op.LD_FALSE, Op.READ_REF, Op.WRITE_REF, Op.ADD, Op.SUB, Op.MUL, Op.MOD, Op.DIV,
    Op.BIT_OR, Op.BIT_AND, Op.XOR, Op.OR, Op.AND, Op.NOT, Op.EQ, Op.NEQ, Op.LT, Op.GT, Op.LE, Op.GE, Op.ABORT, Op.NOP,
    Op.FREEZE_REF, Op.SHL, Op.SHR, Op.CAST_U8, Op.CAST_U64, Op.CAST_U128, Op.CAST_U16, Op.CAST_U32, Op.CAST_U256,
})  # fmt: skip
_LITERAL_LENGTH: Final = {Op.LD_U8: 1, Op.LD_U16: 2, Op.LD_U32: 4, Op.LD_U64: 8, Op.LD_U128: 16, Op.LD_U256: 32}
_WITH_COUNT: Final = frozenset({Op.VEC_PACK, Op.VEC_UNPACK})

Origins = Mapping[tuple[str, str], bytes]
"""The package that first defined a struct, by module and name; what is missing is defined by the package itself."""
_NO_ORIGINS: Final[Origins] = {}
Instruction = tuple[Op, int | tuple[int, int]]
T = TypeVar("T")


class FunctionHandle(msgspec.Struct, frozen=True):
    """A function as its callers see it."""

    address: bytes
    module: str
    name: str
    parameters: tuple[Type, ...]
    returns: tuple[Type, ...]
    constraints: tuple[int, ...]


class StructHandle(msgspec.Struct, frozen=True):
    """A struct as its users see it; `abilities` is the bit set copy 1, drop 2, store 4, key 8."""

    address: bytes
    module: str
    name: str
    abilities: int
    parameters: tuple[tuple[int, bool], ...]


class StructDefinition(msgspec.Struct, frozen=True):
    """A struct with its fields in order."""

    handle: StructHandle
    fields: tuple[tuple[str, Type], ...]


class FunctionDefinition(msgspec.Struct, frozen=True):
    """A function with its body; `index` is its place in the module's table of definitions."""

    handle: FunctionHandle
    index: int
    visibility: int
    entry: bool
    locals: tuple[Type, ...]
    code: tuple[Instruction, ...]


class Module(msgspec.Struct, frozen=True):
    """One module, its tables resolved to values."""

    address: bytes
    name: str
    function_handles: tuple[FunctionHandle, ...]
    function_instantiations: tuple[tuple[FunctionHandle, tuple[Type, ...]], ...]
    signatures: tuple[tuple[Type, ...], ...]
    constants: tuple[tuple[Type, bytes], ...]
    structs: tuple[StructDefinition, ...]
    struct_instantiations: tuple[tuple[StructDefinition, tuple[Type, ...]], ...]
    field_handles: tuple[tuple[StructDefinition, int], ...]
    field_instantiations: tuple[tuple[tuple[StructDefinition, int], tuple[Type, ...]], ...]
    functions: tuple[FunctionDefinition, ...]
    imports: tuple[tuple[bytes, str], ...]


_PRIMITIVE_TOKENS: Final = {
    1: "bool", 2: "u8", 3: "u64", 4: "u128", 5: "address", 0xC: "signer", 0xD: "u16", 0xE: "u32", 0xF: "u256",
}  # fmt: skip


def with_self_address(code: bytes, address: bytes) -> bytes:
    """Module bytes with the zero address replaced by `address`: what publishing does to a module."""
    patched = bytearray(code)
    for kind, start, end in _tables(Cursor(code, 8)):
        if kind == 0x8:
            for at in range(start, end, ADDRESS_LENGTH):
                if not any(code[at : at + ADDRESS_LENGTH]):
                    patched[at : at + ADDRESS_LENGTH] = address
    return bytes(patched)


def _tables(cursor: Cursor) -> list[tuple[int, int, int]]:
    headers = [(cursor.integer(1), cursor.uleb(), cursor.uleb()) for _ in range(cursor.uleb())]
    return [(kind, cursor.position + offset, cursor.position + offset + length) for kind, offset, length in headers]


class _Reader:
    def __init__(self, code: bytes, origins: Origins) -> None:
        if code[:4] != MAGIC:
            raise BytecodeError(f"expected a Move module, got bytes that start with {code[:4].hex()}")
        if len(code) > MODULE_BYTES_MAX:
            raise BytecodeError(f"expected at most {MODULE_BYTES_MAX} bytes of module, got {len(code)}")
        version = int.from_bytes(code[4:8], "little") & 0xFFFFFF  # the upper byte names the flavour
        if version not in VERSIONS:
            raise BytecodeError(f"expected Move binary version 6 or 7, got {version}")
        self.version = version
        self.code = code
        self.origins = origins
        tables = _tables(Cursor(code, 8))
        self.tables = {kind: (start, end) for kind, start, end in tables}
        self.end = max(end for _, _, end in tables)
        self.structs: tuple[StructHandle, ...] = ()

    def each(self, kind: int, read: Callable[[Cursor], T]) -> tuple[T, ...]:
        start, end = self.tables.get(kind, (0, 0))
        cursor = Cursor(self.code[:end], start)
        found: list[T] = []
        while cursor.position < end:
            found.append(read(cursor))
        return tuple(found)

    def type(self, cursor: Cursor, depth: int = 0) -> Type:
        if depth > 256:
            raise BytecodeError("expected at most 256 nested types")
        kind = cursor.integer(1)
        if name := _PRIMITIVE_TOKENS.get(kind):
            return name
        if kind in {0x6, 0x7}:
            return Reference(self.type(cursor, depth + 1), mutable=kind == 0x7)
        if kind == 0xA:
            return Vector(self.type(cursor, depth + 1))
        if kind == 0x9:
            return Parameter(cursor.uleb())
        if kind in {0x8, 0xB}:
            handle = self.structs[cursor.uleb()]
            arguments: tuple[Type, ...] = ()
            if kind == 0xB:
                arguments = tuple(self.type(cursor, depth + 1) for _ in range(cursor.uleb()))
            return Datatype(handle.address, handle.module, handle.name, arguments)
        raise BytecodeError(f"expected a type token, got {kind:#x}")

    def instruction(self, cursor: Cursor) -> Instruction:
        number = cursor.integer(1)
        try:
            op = Op(number)
        except ValueError:
            raise BytecodeError(f"instruction {number:#x} is not supported by the simulated ledger") from None
        if op in _NO_OPERAND:
            return op, 0
        if length := _LITERAL_LENGTH.get(op):
            return op, cursor.integer(length)
        if op in _WITH_COUNT:
            return op, (cursor.uleb(), cursor.integer(8))
        return op, cursor.uleb()


def read_module(code: bytes, origins: Origins = _NO_ORIGINS) -> Module:
    """The module in `code`.

    Args:
        code: the module's bytes.
        origins: for a later version of a package: the package that first defined each of its structs.

    Raises:
        BytecodeError: not a module, or one that uses what this ledger does not support (enums).
    """
    try:
        return _read(_Reader(code, origins))
    except BytecodeError:
        raise
    except (LedgerError, IndexError, ValueError, RecursionError) as error:
        raise BytecodeError(f"the module's tables contradict each other: {error}") from error


def _read(reader: _Reader) -> Module:
    code = reader.code
    identifiers = reader.each(0x7, Cursor.string)
    addresses = reader.each(0x8, lambda cursor: cursor.take(ADDRESS_LENGTH))
    modules = reader.each(0x1, lambda cursor: (addresses[cursor.uleb()], identifiers[cursor.uleb()]))

    self_address, self_name = modules[Cursor(code, reader.end).uleb()]

    def struct_handle(cursor: Cursor) -> StructHandle:
        address, module = modules[cursor.uleb()]
        name, abilities = identifiers[cursor.uleb()], cursor.uleb()
        if address == self_address:
            address = reader.origins.get((module, name), address)
        parameters = tuple((cursor.uleb(), cursor.boolean()) for _ in range(cursor.uleb()))
        return StructHandle(address, module, name, abilities, parameters)

    reader.structs = reader.each(0x2, struct_handle)
    signatures = reader.each(0x5, lambda cursor: tuple(reader.type(cursor) for _ in range(cursor.uleb())))

    def function_handle(cursor: Cursor) -> FunctionHandle:
        address, module = modules[cursor.uleb()]
        name = identifiers[cursor.uleb()]
        parameters, returns = signatures[cursor.uleb()], signatures[cursor.uleb()]
        return FunctionHandle(
            address, module, name, parameters, returns, tuple(cursor.uleb() for _ in range(cursor.uleb()))
        )

    function_handles = reader.each(0x3, function_handle)

    def struct_definition(cursor: Cursor) -> StructDefinition:
        handle = reader.structs[cursor.uleb()]
        flag = cursor.integer(1)
        if flag != 2:
            raise BytecodeError(f"struct {handle.name} is native, which Sui packages cannot have")
        return StructDefinition(
            handle, tuple((identifiers[cursor.uleb()], reader.type(cursor)) for _ in range(cursor.uleb()))
        )

    structs = reader.each(0xA, struct_definition)
    struct_instantiations = reader.each(0xB, lambda cursor: (structs[cursor.uleb()], signatures[cursor.uleb()]))
    field_handles = reader.each(0xD, lambda cursor: (structs[cursor.uleb()], cursor.uleb()))
    field_instantiations = reader.each(0xE, lambda cursor: (field_handles[cursor.uleb()], signatures[cursor.uleb()]))

    position = -1

    def function_definition(cursor: Cursor) -> FunctionDefinition:
        nonlocal position
        position += 1
        handle = function_handles[cursor.uleb()]
        visibility, flags = cursor.integer(1), cursor.integer(1)
        for _ in range(cursor.uleb()):
            cursor.uleb()  # acquired resources: global storage does not exist on Sui
        if flags & NATIVE_FLAG:
            raise BytecodeError(f"function {handle.name} is native, which published packages cannot have")
        local_types = signatures[cursor.uleb()]
        code = tuple(reader.instruction(cursor) for _ in range(cursor.uleb()))
        if reader.version >= 7 and cursor.uleb():
            raise BytecodeError(f"function {handle.name} matches on an enum, which is not supported")
        return FunctionDefinition(handle, position, visibility, bool(flags & ENTRY_FLAG), local_types, code)

    return Module(
        address=self_address,
        name=self_name,
        function_handles=function_handles,
        function_instantiations=reader.each(
            0x4, lambda cursor: (function_handles[cursor.uleb()], signatures[cursor.uleb()])
        ),
        signatures=signatures,
        constants=reader.each(0x6, lambda cursor: (reader.type(cursor), cursor.blob())),
        structs=structs,
        struct_instantiations=struct_instantiations,
        field_handles=field_handles,
        field_instantiations=field_instantiations,
        functions=reader.each(0xC, function_definition),
        imports=tuple(m for m in modules if m != (self_address, self_name)),
    )
