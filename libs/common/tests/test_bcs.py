"""BCS: the examples of the specification, round trips, and strictness."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common import bcs
from daas.common.errors import DaasError, DecodeError, InvalidInput

UNSIGNED = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "u128": 128}


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [  # from the BCS specification's own examples
        (bcs.u16(4660), "3412"),
        (bcs.u32(305419896), "78563412"),
        (bcs.u64(1311768467750121216), "00efcdab78563412"),
        (bcs.uleb128(1), "01"),
        (bcs.uleb128(128), "8001"),
        (bcs.uleb128(16384), "808001"),
        (bcs.uleb128(2097152), "80808001"),
        (bcs.uleb128(268435456), "8080808001"),
        (bcs.uleb128(9487), "8f4a"),
        (bcs.option(bcs.u8, 8), "0108"),
        (bcs.option(bcs.u8, None), "00"),
        (bcs.vector(bcs.u16, [1, 2]), "0201000200"),
        (bcs.string("çå∞≠¢õß∂ƒ∫"), "18c3a7c3a5e2889ee289a0c2a2c3b5c39fe28882c692e288ab"),
        (bcs.boolean(True), "01"),
    ],
)
def test_the_specifications_examples(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


@pytest.mark.parametrize("name", UNSIGNED)
@given(data=st.data())
def test_integers_round_trip_and_refuse_what_does_not_fit(name: str, data: st.DataObject) -> None:
    limit = 2 ** UNSIGNED[name]
    value = data.draw(st.integers(0, limit - 1))
    reader = bcs.Reader(getattr(bcs, name)(value))
    assert getattr(reader, name)() == value
    reader.end()
    for outside in (-1, limit):
        with pytest.raises(InvalidInput, match="bcs-integer-range"):
            getattr(bcs, name)(outside)


@given(
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
    st.text(max_size=100),
    st.lists(st.booleans(), max_size=200),
    st.none() | st.text(max_size=10),
    st.binary(min_size=32, max_size=32),
)
def test_a_structure_round_trips(
    number: int, raw: bytes, text: str, flags: list[bool], maybe: str | None, address: bytes
) -> None:
    encoded = (
        bcs.u64(number)
        + bcs.bytes_(raw)
        + bcs.string(text)
        + bcs.vector(bcs.boolean, flags)
        + bcs.option(bcs.string, maybe)
        + bcs.address(address)
    )
    reader = bcs.Reader(encoded)
    assert reader.u64() == number
    assert reader.bytes_() == raw
    assert reader.string() == text
    assert reader.vector(reader.boolean) == flags
    assert reader.option(reader.string) == maybe
    assert reader.address() == address
    reader.end()


def decode_any(data: bytes) -> tuple[list[str], int | None, bytes]:
    reader = bcs.Reader(data)
    value = (reader.vector(reader.string), reader.option(reader.u16), reader.bytes_())
    reader.end()
    return value


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_are_the_one_encoding_of_a_value(data: bytes) -> None:
    try:
        strings, number, raw = decode_any(data)
    except DecodeError:
        return
    assert bcs.vector(bcs.string, strings) + bcs.option(bcs.u16, number) + bcs.bytes_(raw) == data


@given(st.lists(st.text(max_size=5), max_size=5), st.integers(0, 60))
def test_every_truncation_and_every_extra_byte_is_refused(strings: list[str], cut: int) -> None:
    whole = bcs.vector(bcs.string, strings) + bcs.option(bcs.u16, 7) + bcs.bytes_(b"abc")
    for damaged in (whole[: min(cut, len(whole) - 1)], whole + b"\x00"):
        with pytest.raises(DecodeError):
            decode_any(damaged)


@pytest.mark.parametrize(
    ("data", "read", "reason"),
    [
        (b"\x02", "boolean", "bcs-boolean"),
        (b"\x80\x00", "uleb128", "bcs-length-form"),
        (b"\x81\x80\x00", "uleb128", "bcs-length-form"),
        (b"\x80\x80\x80\x80\x08", "uleb128", "bcs-length-range"),
        (b"\xff\xff\xff\xff\xff\xff", "uleb128", "bcs-length-range"),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x01", "uleb128", "bcs-length-form|bcs-length-range|bcs-truncated"),
        (b"\x80", "uleb128", "bcs-truncated"),
        (b"\x01\xff", "string", "bcs-string"),
        (bytes(31), "address", "bcs-truncated"),
        (b"\x05abc", "bytes_", "bcs-truncated"),
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes, read: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        getattr(bcs.Reader(data), read)()


def test_a_length_prefix_is_bounded_whatever_follows() -> None:
    for length in range(6, 40):
        with pytest.raises(DecodeError):
            bcs.Reader(b"\x80" * length + b"\x01").uleb128()


def test_a_vector_that_claims_more_than_there_is_builds_nothing() -> None:
    built = []
    reader = bcs.Reader(bcs.uleb128(2**31 - 1) + b"\x00")
    with pytest.raises(DecodeError, match="bcs-truncated"):
        reader.vector(lambda: built.append(1))
    assert built == []


@given(st.integers())
def test_lengths_outside_31_bits_are_refused(value: int) -> None:
    try:
        encoded = bcs.uleb128(value)
    except InvalidInput:
        assert not 0 <= value <= bcs.MAX_LENGTH
    else:
        assert bcs.Reader(encoded).uleb128() == value


def test_an_address_has_32_bytes() -> None:
    with pytest.raises(DaasError, match="bcs-address-length"):
        bcs.address(bytes(31))
