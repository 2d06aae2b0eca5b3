"""Bodies: round trips of every kind, strictness, and forward compatibility; and the error tree."""

import pickle
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common import errors, messages
from daas.common.errors import DaasError, DecodeError
from daas.common.messages import Message, PlacementAnchored, PlacementDecided, StorageStored, decode, encode
from daas.common.subjects import MAX_MESSAGE_BYTES

KINDS = sorted(Message.__subclasses__(), key=lambda kind: kind.__name__)

#: By the pattern or bounds of a field, a value that satisfies it.
STRINGS = {
    r"^[0-9a-f]{64}$": "ab" * 32,
    r"^[0-9a-f]{128}$": "cd" * 64,
    r"^0x[0-9a-f]{64}$": "0x" + "ef" * 32,
    r"^([0-9a-f]{128})?$": "cd" * 64,
}


def value_of(kind: msgspec.inspect.Type) -> object:
    match kind:
        case msgspec.inspect.StrType(pattern=pattern):
            return STRINGS.get(pattern or "", "text")
        case msgspec.inspect.Metadata(type=inner):
            return value_of(inner)
        case msgspec.inspect.IntType():
            return 7
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.UnionType(types=types):
            return value_of(types[0])
        case msgspec.inspect.VarTupleType(item_type=item):
            return [value_of(item)]
        case msgspec.inspect.TupleType(item_types=items):
            return [value_of(item) for item in items]
        case msgspec.inspect.DictType():
            return {"key": "value"}
        case msgspec.inspect.StructType(cls=cls):
            return msgspec.to_builtins(example(cls))
        case msgspec.inspect.AnyType():
            return {"kind": ["any", 1]}
        case msgspec.inspect.NoneType():
            return None
    raise AssertionError(f"no example for {kind}")


def example(cls: type[Any]) -> Any:
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    fields = {field.name: value_of(field.type) for field in info.fields if field.name != "schema"}
    return msgspec.convert(fields, cls)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_round_trips_and_ignores_fields_it_does_not_know(kind: type[Any]) -> None:
    message = example(kind)
    data = encode(message)
    assert decode(data, kind) == message
    assert encode(decode(data, kind)) == data
    newer = msgspec.json.decode(data) | {"a_field_of_tomorrow": [1, 2]}
    assert decode(msgspec.json.encode(newer), kind) == message
    assert msgspec.json.decode(data)["schema"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_another_schema_and_a_missing_field_are_refused(kind: type[Any]) -> None:
    fields = msgspec.json.decode(encode(example(kind)))
    with pytest.raises(DecodeError, match="unknown-schema"):
        decode(msgspec.json.encode(fields | {"schema": 2}), kind)
    required = [f.name for f in msgspec.structs.fields(kind) if f.required]
    for name in required:
        with pytest.raises(DecodeError, match="malformed-message"):
            decode(msgspec.json.encode({key: value for key, value in fields.items() if key != name}), kind)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, PlacementDecided)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode(b'{"x":' * 100_000, StorageStored)


def test_the_offending_field_is_named() -> None:
    fields = msgspec.json.decode(encode(example(PlacementAnchored)))
    with pytest.raises(DecodeError) as refused:
        decode(msgspec.json.encode(fields | {"payload_digest": "AB" * 32}), PlacementAnchored)
    assert refused.value.field == "$.payload_digest"


def test_a_signed_batch_of_the_largest_size_fits_one_message() -> None:
    batch = example(PlacementDecided)
    leaf = msgspec.structs.replace(
        batch.leaves[0], pod_uid="u" * 36, namespace="n" * 63, name="p" * 253, node="n" * 253, resource_version="9" * 20
    )
    assert len(encode(msgspec.structs.replace(batch, leaves=(leaf,) * 512))) < MAX_MESSAGE_BYTES / 4
    with pytest.raises(DecodeError):
        decode(encode(msgspec.structs.replace(batch, leaves=(leaf,) * 513)), PlacementDecided)


#: Libraries subclass these with signatures of their own: only the tree of daas.common is meant here.
TREE = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, DaasError)]


@pytest.mark.parametrize("cls", TREE)
def test_errors_keep_their_three_fields_across_process_borders(cls: type[DaasError]) -> None:
    error = cls("expected a, got b", reason="a-reason", field="$.x")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.problem() == error.problem() == errors.Problem("a-reason", "expected a, got b", "$.x")
    assert str(error) == "expected a, got b [a-reason] (field $.x)"
    assert str(cls("x", reason="r")) == "x [r]"


def test_numbers_hold_64_bits_of_a_ledger_and_no_more() -> None:
    assert get_args(messages.U64)[1].le == 2**63 - 1
    largest = msgspec.structs.replace(example(PlacementAnchored), sequence=2**63 - 1)
    assert decode(encode(largest), PlacementAnchored) == largest
    with pytest.raises(DecodeError):
        decode(encode(msgspec.structs.replace(largest, sequence=2**63)), PlacementAnchored)
