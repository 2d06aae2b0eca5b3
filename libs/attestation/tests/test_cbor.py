"""The strict CBOR reader: one value has one encoding, and everything else is refused."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.attestation import cbor
from daas.common.errors import InvalidInput

_SCALARS = st.one_of(
    st.integers(min_value=-(1 << 64), max_value=(1 << 64) - 1),
    st.binary(max_size=300),
    st.text(max_size=100),
    st.none(),
)
_KEYS = st.one_of(st.integers(min_value=0, max_value=1 << 20), st.text(max_size=10))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=4,
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    return 0


@given(_VALUES.filter(lambda value: _depth(value) <= cbor.DEPTH_MAX))
def test_what_is_written_is_read_back_and_a_general_decoder_agrees(value: cbor.Value) -> None:
    encoded = cbor.dumps(value)
    assert cbor.loads(encoded) == value
    assert cbor2.loads(encoded) == value
    assert cbor2.dumps(value) == encoded


@given(st.binary(max_size=64))
def test_whatever_the_bytes_they_are_read_as_a_general_decoder_reads_them_or_refused(data: bytes) -> None:
    try:
        value = cbor.loads(data, allow_bool=True)
    except cbor.CborError:
        return
    assert cbor2.loads(data) == value


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        ("", "truncated"),
        ("0000", "trailing bytes"),
        ("42ff", "truncated"),
        ("1817", "non-shortest"),
        ("190017", "non-shortest"),
        ("1a0000ffff", "non-shortest"),
        ("1b00000000ffffffff", "non-shortest"),
        ("1c", "reserved"),
        ("5f4100ff", "chunked"),
        ("7f6161ff", "chunked"),
        ("ff", "break"),
        ("9f00", "no break"),
        ("bf00ff", "break"),
        ("82", "count larger"),
        ("a3000102", "count larger"),
        ("9bffffffffffffffff", "count larger"),
        ("a200010002", "duplicate"),
        ("a1f60a", "neither integer nor text"),
        ("a1f50a", "neither integer nor text"),
        ("a140f6", "neither integer nor text"),
        ("62fffe", "not UTF-8"),
        ("c000", "tag not allowed"),
        ("f7", "simple value"),
        ("f93c00", "float"),
        ("fb3ff0000000000000", "float"),
        ("818181818181", "too deep"),
    ],
)
def test_an_encoding_outside_of_the_subset_is_refused(encoding: str, why: str) -> None:
    with pytest.raises(cbor.CborError, match=why):
        cbor.loads(bytes.fromhex(encoding), allow_bool=True)


def test_booleans_and_tags_are_read_only_where_they_are_allowed() -> None:
    assert cbor.loads(b"\xf5", allow_bool=True) is True
    assert cbor.loads(b"\xf4", allow_bool=True) is False
    assert cbor.loads(b"\xd2\x00", allow_tag=True) == cbor.Tagged(18, 0)
    for encoding in (b"\xf5", b"\xd2\x00"):
        with pytest.raises(cbor.CborError):
            cbor.loads(encoding)
    with pytest.raises(cbor.CborError, match="tag not allowed"):
        cbor.loads(b"\xd2\xd2\x00", allow_tag=True)


def test_indefinite_arrays_and_maps_read_like_definite_ones() -> None:
    assert cbor.loads(bytes.fromhex("bf616101ff")) == {"a": 1}
    assert cbor.loads(bytes.fromhex("9f0102ff")) == [1, 2]


@pytest.mark.parametrize("value", [1.5, {1, 2}, 1 << 64, object()])
def test_what_the_subset_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises(InvalidInput):
        cbor.dumps(value)
