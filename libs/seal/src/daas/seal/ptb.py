"""Transactions that ask for keys: built for a client, and read by a key server under the rules of `seal_approve*`.

The bytes are BCS of Sui's ProgrammableTransaction (TransactionKind without its first byte): inputs, then commands.
Rules (MystenLabs/seal, crates/key-server/src/valid_ptb.rs): 1 to 100 commands, all Move calls into one package, of
functions whose names start with `seal_approve`, with inputs as arguments, the first a pure vector<u8>: the inner id.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from daas.common import bcs
from daas.common.errors import DecodeError, InvalidInput

COMMANDS_MAX: Final = 100
FUNCTION_PREFIX: Final = "seal_approve"
_TYPE_DEPTH_MAX: Final = 16
_DIGEST_LENGTH: Final = 32
_PURE, _OBJECT = 0, 1
_OWNED, _SHARED, _RECEIVING = 0, 1, 2
_MOVE_CALL: Final = 0
_INPUT_ARGUMENT: Final = 1
#: Type tags without parameters: bool, u8, u64, u128, address, signer, u16, u32, u256.
_PRIMITIVES: Final = frozenset({0, 1, 2, 3, 4, 5, 8, 9, 10})
_VECTOR, _STRUCT = 6, 7


class InvalidPtb(InvalidInput):
    """A transaction that key servers do not evaluate."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="invalid-ptb")

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt from its sentence."""
        return type(self), (self.message,)


class Pure(msgspec.Struct, frozen=True):
    """An input by value: its BCS."""

    value: bytes


class Owned(msgspec.Struct, frozen=True):
    """An owned or immutable object; key servers resolve the version anew."""

    object_id: bytes
    version: int
    digest: bytes


class Shared(msgspec.Struct, frozen=True):
    """A shared object, by the version at which it was first shared."""

    object_id: bytes
    initial_version: int
    mutable: bool = False


class Receiving(msgspec.Struct, frozen=True):
    """An object sent to another object; read, never built here."""

    object_id: bytes
    version: int
    digest: bytes


Input = Pure | Owned | Shared | Receiving


class ApproveCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call that asks for the key of one identity.

    Attributes:
        module, function: of the package; the function's name starts with `seal_approve`.
        inner_id: the identity: the first argument.
        arguments: the others.
    """

    module: str
    function: str
    inner_id: bytes
    arguments: tuple[Input, ...] = ()


class ParsedCall(msgspec.Struct, frozen=True):
    """One call of a valid transaction, its arguments resolved to the inputs they name.

    Attributes:
        type_arguments: BCS of each.
        inner_id: what the first argument holds.
    """

    module: str
    function: str
    type_arguments: tuple[bytes, ...]
    arguments: tuple[Input, ...]
    inner_id: bytes


class ParsedPtb(msgspec.Struct, frozen=True):
    """A valid transaction: the one package it calls, and its calls in order."""

    package_id: bytes
    calls: tuple[ParsedCall, ...]

    @property
    def inner_ids(self) -> tuple[bytes, ...]:
        """The identities asked for, one for each call."""
        return tuple(call.inner_id for call in self.calls)


def build_ptb(package_id: bytes, calls: Sequence[ApproveCall]) -> bytes:
    """The transaction that asks for the keys of these calls.

    Args:
        package_id: 32 bytes, of the version to be called (the newest; identities keep the first one's).
        calls: 1 to 100.

    Raises:
        InvalidPtb: no key server would evaluate it.
    """
    inputs: list[Input] = []
    places: dict[Input, int] = {}
    commands = []

    def place(value: Input) -> bytes:
        # Objects must not be given twice; values may be shared as well.
        if value not in places:
            places[value] = len(inputs)
            inputs.append(value)
        return bcs.uleb128(_INPUT_ARGUMENT) + bcs.u16(places[value])

    for call in calls:
        arguments = [place(each) for each in (Pure(bcs.bytes_(call.inner_id)), *call.arguments)]
        commands.append(
            bcs.uleb128(_MOVE_CALL)
            + bcs.address(package_id)
            + bcs.string(call.module)
            + bcs.string(call.function)
            + bcs.uleb128(0)
            + bcs.vector(bytes, arguments)
        )
    ptb = bcs.vector(_encode_input, inputs) + bcs.vector(bytes, commands)
    parse_ptb(ptb)
    return ptb


def parse_ptb(data: bytes) -> ParsedPtb:
    """Reads a transaction and holds it to the rules.

    Raises:
        InvalidPtb: which rule it breaks.
    """
    reader = bcs.Reader(data)
    try:
        inputs = reader.vector(lambda: _read_input(reader))
        count = reader.uleb128()
        if not 0 < count <= COMMANDS_MAX or not inputs:
            raise InvalidPtb(f"expected inputs and 1 to {COMMANDS_MAX} commands, not {len(inputs)} and {count}")
        calls = [_read_call(reader, inputs) for _ in range(count)]
        reader.end()
    except DecodeError as error:
        raise InvalidPtb(f"the transaction is no BCS: {error.message}") from None
    packages = {package for package, _ in calls}
    if len(packages) != 1:
        raise InvalidPtb("the calls go into more than one package")
    return ParsedPtb(calls[0][0], tuple(call for _, call in calls))


def _encode_input(value: Input) -> bytes:
    match value:
        case Pure(value=data):
            return bcs.uleb128(_PURE) + bcs.bytes_(data)
        case Owned(object_id=object_id, version=version, digest=digest):
            reference = bcs.address(object_id) + bcs.u64(version) + bcs.bytes_(digest)
            return bcs.uleb128(_OBJECT) + bcs.uleb128(_OWNED) + reference
        case Receiving(object_id=object_id, version=version, digest=digest):
            reference = bcs.address(object_id) + bcs.u64(version) + bcs.bytes_(digest)
            return bcs.uleb128(_OBJECT) + bcs.uleb128(_RECEIVING) + reference
        case Shared(object_id=object_id, initial_version=version, mutable=mutable):
            reference = bcs.address(object_id) + bcs.u64(version) + bcs.boolean(mutable)
            return bcs.uleb128(_OBJECT) + bcs.uleb128(_SHARED) + reference


def _read_input(reader: bcs.Reader) -> Input:
    kind = reader.uleb128()
    if kind == _PURE:
        return Pure(reader.bytes_())
    if kind != _OBJECT:
        raise InvalidPtb(f"unknown kind of input {kind}")
    kind = reader.uleb128()
    if kind == _SHARED:
        return Shared(reader.address(), reader.u64(), reader.boolean())
    if kind not in {_OWNED, _RECEIVING}:
        raise InvalidPtb(f"unknown kind of object {kind}")
    object_id, version, digest = reader.address(), reader.u64(), reader.bytes_()
    if len(digest) != _DIGEST_LENGTH:
        raise InvalidPtb("an object's digest has 32 bytes")
    return (Owned if kind == _OWNED else Receiving)(object_id, version, digest)


def _read_call(reader: bcs.Reader, inputs: Sequence[Input]) -> tuple[bytes, ParsedCall]:
    """Package and content of one command."""
    if reader.uleb128() != _MOVE_CALL:
        raise InvalidPtb("a command is no Move call")
    package = reader.address()
    module = reader.string()
    function = reader.string()
    if not function.startswith(FUNCTION_PREFIX):
        raise InvalidPtb(f"a function's name does not start with {FUNCTION_PREFIX}")
    types = reader.vector(lambda: _read_type(reader, _TYPE_DEPTH_MAX))
    arguments = tuple(reader.vector(lambda: _read_argument(reader, inputs)))
    if not arguments:
        raise InvalidPtb("the first argument is missing")
    first = arguments[0]
    if not isinstance(first, Pure):
        raise InvalidPtb("the first argument is no pure value")
    value = bcs.Reader(first.value)
    inner_id = value.bytes_()
    value.end()
    return package, ParsedCall(module, function, tuple(types), arguments, inner_id)


def _read_argument(reader: bcs.Reader, inputs: Sequence[Input]) -> Input:
    if reader.uleb128() != _INPUT_ARGUMENT:
        raise InvalidPtb("an argument is no input of the transaction")
    index = reader.u16()
    if index >= len(inputs):
        raise InvalidPtb("an argument names an input that is not there")
    return inputs[index]


def _read_type(reader: bcs.Reader, depth: int) -> bytes:
    """BCS of a type tag, as it stands there."""
    kind = reader.uleb128()
    head = bcs.uleb128(kind)
    if kind in _PRIMITIVES:
        return head
    if not depth or kind not in {_VECTOR, _STRUCT}:
        raise InvalidPtb("a type argument is unknown or nested too deeply")
    if kind == _VECTOR:
        return head + _read_type(reader, depth - 1)
    head += reader.address() + bcs.string(reader.string()) + bcs.string(reader.string())
    return head + bcs.vector(bytes, reader.vector(lambda: _read_type(reader, depth - 1)))
