"""The state of one transaction while it runs: new ids, events, placed objects, dynamic fields, gas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from daas.devstack.ledger.encoding import Codec, Value
from daas.devstack.ledger.errors import ExecutionFailedError, LedgerError
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.natives.registry import AbortError, Ref
from daas.devstack.ledger.objects import Object, Owner
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.type_tags import SUI, Datatype, Type, type_tag_bytes

EVENTS_MAX: Final = 1_024
EVENT_BYTES_MAX: Final = 250_000
NEW_IDS_MAX: Final = 2_048
FIELDS_MAX: Final = 1_000
OBJECT_BYTES_MAX: Final = 250 * 1_024

FIELD_EXISTS: Final = 0
FIELD_MISSING: Final = 1
FIELD_TYPE_MISMATCH: Final = 2
RECEIVING_TYPE_MISMATCH: Final = 2
UNABLE_TO_RECEIVE: Final = 3
_LOAD_INTERNAL_PER_BYTE: Final = 1  # the first time that a child object is read


class Event(msgspec.Struct, frozen=True):
    """An event as Sui records it: with the module whose function the transaction called."""

    package: bytes
    module: str
    sender: bytes
    type: Datatype
    contents: bytes


class Placed(msgspec.Struct, frozen=True):
    """An object that Move code gave an owner."""

    owner: Owner
    type: Datatype
    value: Value


class Child:
    """An object owned by an object, loaded or made during the execution; `cell` holds its value, None once removed."""

    __slots__ = ("cell", "original", "parent", "type")

    def __init__(self, cell: list[Value], type_: Datatype, parent: bytes, original: Object | None) -> None:
        self.cell = cell
        self.type = type_
        self.parent = parent
        self.original = original


def derive_object_id(digest: bytes, number: int) -> bytes:
    """The id of the `number`-th object that the transaction with this digest makes."""
    return hashlib.blake2b(b"\xf1" + digest + number.to_bytes(8, "little"), digest_size=32).digest()


def derive_field_id(parent: bytes, key_type: Type, key: bytes) -> bytes:
    """The id of the dynamic field of `parent` whose name has this type and BCS."""
    preimage = b"\xf0" + parent + len(key).to_bytes(8, "little") + key + type_tag_bytes(key_type)
    return hashlib.blake2b(preimage, digest_size=32).digest()


def field_type(key_type: Type, value_type: Type) -> Datatype:
    """The type of the object that holds a dynamic field."""
    return Datatype(SUI, "dynamic_field", "Field", (key_type, value_type))


class Execution:
    """What natives and the interpreter see of the transaction they run in."""

    def __init__(
        self,
        program: Program,
        load: Callable[[bytes], Object | None],
        *,
        sender: bytes,
        sponsor: bytes | None,
        digest: bytes,
        epoch: int,
        epoch_start_ms: int,
        gas_price: int,
        meter: Meter,
    ) -> None:
        self.program = program
        self.codec: Codec = program.codec
        self.load = load
        self.sender = sender
        self.sponsor = sponsor
        self.digest = digest
        self.epoch = epoch
        self.epoch_start_ms = epoch_start_ms
        self.gas_price = gas_price
        self.meter = meter
        self.depth = 0
        self.ids_made = 0
        self.calling: tuple[bytes, str] = (SUI, "none")
        self.new_ids: dict[bytes, None] = {}
        self.deleted_ids: dict[bytes, None] = {}
        self.placed: dict[bytes, Placed] = {}
        self.shared_inputs: frozenset[bytes] = frozenset()
        self.events: list[Event] = []
        self.children: dict[bytes, Child] = {}
        self.received: dict[bytes, Object] = {}
        self.receivable: dict[bytes, Object] = {}
        self.funds: dict[tuple[bytes, Type], int] = {}

    def move_funds(self, owner: bytes, coin_type: Type, amount: int) -> None:
        """Add to an address balance, or take from it with a negative amount; admission has reserved what is taken."""
        key = (owner, coin_type)
        self.funds[key] = self.funds.get(key, 0) + amount

    def receive(self, parent: bytes, object_id: bytes, version: int, type_: Type) -> Value:
        """Take an object that was sent to `parent`'s address.

        Raises:
            AbortError: it is not there, or of another type.
        """
        held = self.receivable.get(object_id)
        if held is None or held.owner.address != parent or held.version != version or object_id in self.received:
            raise AbortError(UNABLE_TO_RECEIVE, "transfer::receive_impl")
        if held.type != type_:
            raise AbortError(RECEIVING_TYPE_MISMATCH, "transfer::receive_impl")
        self.received[object_id] = held
        return self.codec.decode(held.type, held.contents)

    def fresh_id(self) -> bytes:
        """A new object id."""
        if len(self.new_ids) >= NEW_IDS_MAX:
            raise ExecutionFailedError("MOVE_PRIMITIVE_RUNTIME_ERROR", f"more than {NEW_IDS_MAX} new objects")
        object_id = derive_object_id(self.digest, self.ids_made)
        self.ids_made += 1
        self.new_ids[object_id] = None
        return object_id

    def delete_id(self, object_id: bytes) -> None:
        """The object with this id has been taken apart."""
        self.deleted_ids[object_id] = None

    def place(self, type_: Type, value: Value, owner: Owner) -> None:
        """Give an object an owner; it leaves the transaction's hands."""
        assert isinstance(type_, Datatype)
        self.placed[value[0][0][0]] = Placed(owner, type_, value)

    def emit(self, type_: Type, value: Value) -> None:
        """Record an event."""
        contents = self.codec.encode(type_, value)
        if len(self.events) >= EVENTS_MAX or len(contents) > EVENT_BYTES_MAX:
            raise ExecutionFailedError(
                "MOVE_PRIMITIVE_RUNTIME_ERROR", f"more than {EVENTS_MAX} events, or one over {EVENT_BYTES_MAX} bytes"
            )
        assert isinstance(type_, Datatype)
        self.meter.charge(len(contents) * 12 + len(type_tag_bytes(type_)) * 5)
        self.events.append(Event(*self.calling, self.sender, type_, contents))

    # Dynamic fields: `Field {id, name, value}` objects owned by their parent.

    def field(self, parent: bytes, key_type: Type, key: Value, value_type: Type) -> Ref | None:
        """A reference to the value of a dynamic field, None if there is none.

        Raises:
            AbortError: the field is there with another type.
        """
        child = self._field(derive_field_id(parent, key_type, self.codec.encode(key_type, key)))
        if child is None:
            return None
        if child.type != field_type(key_type, value_type):
            raise AbortError(FIELD_TYPE_MISMATCH, "dynamic_field::borrow_child_object")
        return Ref(child.cell[0], 2)

    def has_field(self, parent: bytes, key_type: Type, key: Value, value_type: Type | None = None) -> bool:
        """Whether a dynamic field is there, of this type if one is given."""
        child = self._field(derive_field_id(parent, key_type, self.codec.encode(key_type, key)))
        return child is not None and (value_type is None or child.type == field_type(key_type, value_type))

    def add_field(self, parent: bytes, key_type: Type, key: Value, value_type: Type, value: Value) -> bytes:
        """Add a dynamic field; its object id.

        Raises:
            AbortError: there is one with this name.
        """
        object_id = derive_field_id(parent, key_type, self.codec.encode(key_type, key))
        if self._field(object_id) is not None:
            raise AbortError(FIELD_EXISTS, "dynamic_field::add")
        self._bound_fields()
        before = self.children.get(object_id)
        self.children[object_id] = Child(
            [[[[object_id]], key, value]],
            field_type(key_type, value_type),
            parent,
            before.original if before else None,
        )
        return object_id

    def remove_field(self, parent: bytes, key_type: Type, key: Value, value_type: Type) -> Value:
        """Take a dynamic field away; its value.

        Raises:
            AbortError: it is not there, or of another type.
        """
        reference = self.field(parent, key_type, key, value_type)
        if reference is None:
            raise AbortError(FIELD_MISSING, "dynamic_field::remove_child_object")
        value = reference.get()
        object_id = derive_field_id(parent, key_type, self.codec.encode(key_type, key))
        self.children[object_id].cell[0] = None
        return value

    def child_type(self, parent: bytes, object_id: bytes) -> Datatype | None:
        """The type of an object owned by `parent`, None if it is not there."""
        child = self.children.get(object_id) or self._load_child(object_id)
        return None if child is None or child.parent != parent or child.cell[0] is None else child.type

    def child_object(self, parent: bytes, object_id: bytes, type_: Datatype) -> Ref | None:
        """A reference to an object owned by `parent`, None if it is not there.

        Raises:
            AbortError: it is of another type.
        """
        child = self.children.get(object_id) or self._load_child(object_id)
        if child is None or child.parent != parent or child.cell[0] is None:
            return None
        if child.type != type_:
            raise AbortError(FIELD_TYPE_MISMATCH, "dynamic_field::borrow_child_object")
        return Ref(child.cell, 0)

    def add_child_object(self, parent: bytes, type_: Datatype, value: Value) -> None:
        """Make an object a child of `parent`."""
        object_id = value[0][0][0]
        self._bound_fields()
        before = self.children.get(object_id)
        self.children[object_id] = Child([value], type_, parent, before.original if before else None)

    def take_child_object(self, object_id: bytes) -> Value:
        """Take a child object away from its parent; it must be there."""
        cell = self.children[object_id].cell
        value, cell[0] = cell[0], None
        return value

    def _bound_fields(self) -> None:
        if len(self.children) >= FIELDS_MAX:
            raise ExecutionFailedError("MOVE_PRIMITIVE_RUNTIME_ERROR", f"more than {FIELDS_MAX} dynamic fields")

    def _field(self, object_id: bytes) -> Child | None:
        child = self.children.get(object_id) or self._load_child(object_id)
        return None if child is None or child.cell[0] is None else child

    def _load_child(self, object_id: bytes) -> Child | None:
        found = self.load(object_id)
        if found is None or found.owner.kind != "object":
            return None
        if not isinstance(found.type, Datatype):
            raise LedgerError(f"child object 0x{object_id.hex()} has no struct type", reason="corrupt-state")
        self._bound_fields()
        self.meter.charge(_LOAD_INTERNAL_PER_BYTE * len(found.contents))
        value = self.codec.decode(found.type, found.contents)
        child = self.children[object_id] = Child([value], found.type, found.owner.address, found)
        return child
