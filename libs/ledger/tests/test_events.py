"""Events and objects are decoded strictly, field by field in Move's order."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common import bcs
from daas.common.errors import DecodeError, InvalidInput
from daas.ledger import cluster, event, events
from daas.ledger.address import format_address, format_digest, normal_address, parse_address, parse_digest, parse_type
from daas.ledger.errors import MoveAbortError, NoSuchObject
from daas.ledger.layout import decode_struct
from daas.ledger.models import Effects, Enclave, Registry
from daas.ledger.package import Lineage

PACKAGE = "0x" + "ab" * 32
SOURCES = Path(__file__).resolve().parents[3] / "infra" / "move" / "daas" / "sources"
MOVE_TYPES = {
    "ID": "id",
    "UID": "id",
    "address": "id",
    "u8": "u8",
    "u32": "u32",
    "u64": "u64",
    "bool": "bool",
    "vector<u8>": "bytes",
    "Parameters": "parameters",
    "Rules": "rules",
    "Action": "action",
}
RENAMED = {"from": "from_version", "to": "to_version", "id": "address"}


def move_fields(name: str) -> list[tuple[str, str]]:
    for source in SOURCES.glob("*.move"):
        text = re.sub(r"//.*", "", source.read_text())
        if found := re.search(rf"public struct {name} has [\w, ]+ \{{(.*?)\}}", text, re.DOTALL):
            pairs = re.findall(r"(\w+): ([\w<>, ]+?),?\s*(?:$|\n|(?=\w+:))", found.group(1))
            return [(RENAMED.get(field, field), MOVE_TYPES.get(kind, kind)) for field, kind in pairs]
    raise AssertionError(f"no struct {name} in the Move sources")


def python_fields(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    return [
        (field.name, getattr(kind.__annotations__[field.name], "__metadata__", (None,))[0] or field.name)
        for field in msgspec.structs.fields(kind)
    ]


EVENTS = [kind for kind in event.Event.__subclasses__() if kind is not event.UnknownEvent]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_class_has_the_fields_of_its_move_struct(kind: type[event.Event]) -> None:
    assert python_fields(kind) == move_fields(kind.__name__)


#: Fields whose Move type is a struct or a collection: their names are compared, their parts have tests of their own.
NESTED = {"measurements", "limits", "parameters", "accounts", "names", "votes", "rules", "action", "funds", "treasury"}
COLLECTIONS = {"bonded", "unbonding", "allowed_nodes", "numbers", "digests"}
OBJECTS = [
    Registry,
    Enclave,
    cluster.StakePool,
    cluster.Parameters,
    cluster.Account,
    cluster.Tranche,
    cluster.Withdrawal,
    cluster.Roster,
    cluster.Node,
    cluster.Policy,
    cluster.Rules,
    cluster.Ticket,
    cluster.Proposal,
    cluster.Action,
]


@pytest.mark.parametrize("kind", OBJECTS, ids=lambda kind: kind.__name__)
def test_an_object_class_has_the_fields_of_its_move_struct(kind: type[msgspec.Struct]) -> None:
    ours, moves = python_fields(kind), move_fields(kind.__name__)
    if kind is Registry:
        # Two fields of a struct inside, which BCS does not mark.
        ours.remove(("next_measurement", "u64"))
    elsewhere = NESTED | COLLECTIONS
    assert [field for field, _ in ours] == [field for field, _ in moves]
    assert [pair for pair in ours if pair[0] not in elsewhere] == [pair for pair in moves if pair[0] not in elsewhere]


def test_every_event_of_the_package_has_a_class() -> None:
    emitted = {
        name for source in SOURCES.glob("*.move") for name in re.findall(r"event::emit\((\w+)", source.read_text())
    }
    assert emitted == {kind.__name__ for kind in EVENTS}


def test_a_nonce_event_is_decoded() -> None:
    contents = bytes([9]) * 32 + bcs.bytes_(b"n" * 32) + b"\x01"
    found = events.decode_event(f"{PACKAGE}::registry::NonceRotated", contents, Lineage.first(PACKAGE))
    assert found == events.NonceRotated(registry=format_address(bytes([9]) * 32), nonce=b"n" * 32, simulated=True)


def test_an_event_of_another_package_is_not_taken_for_ours() -> None:
    found = events.decode_event(f"0x{'cd' * 32}::placement::Anchored", b"anything", Lineage.first(PACKAGE))
    assert isinstance(found, event.UnknownEvent)


@given(st.binary(max_size=120))
def test_malformed_contents_are_refused_with_a_reason(contents: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        events.decode_event(f"{PACKAGE}::placement::Anchored", contents, Lineage.first(PACKAGE))
    assert refused.value.reason == "event-contents"


def test_trailing_bytes_are_refused() -> None:
    contents = bytes(32) + bcs.bytes_(b"") + b"\x00"
    decode_struct(events.NonceRotated, contents)
    with pytest.raises(DecodeError):
        decode_struct(events.NonceRotated, contents + b"\x00")


def test_effects_name_the_one_event_that_is_asked_for() -> None:
    rotated = events.NonceRotated(registry=PACKAGE, nonce=b"", simulated=True)
    effects = Effects(
        digest="d", failure=None, events=(rotated, rotated), changes=(), checkpoint=None, timestamp_ms=None, gas_mist=0
    )
    assert effects.of(events.NonceRotated) == (rotated, rotated)
    for kind in (events.NonceRotated, events.Anchored):
        with pytest.raises(NoSuchObject):
            effects.only(kind)


def test_an_abort_says_where_and_by_which_constant() -> None:
    error = MoveAbortError(module="placement", function="anchor", code=2, name="ESequenceTaken", command=0)
    assert error.reason == "sequence-taken"
    assert "placement::anchor" in error.message
    unknown = MoveAbortError(module="m", function="f", code=7, name=None, command=1)
    assert (unknown.reason, unknown.name) == ("move-abort", None)


@given(st.binary(min_size=32, max_size=32))
def test_addresses_and_digests_survive_their_text_form(raw: bytes) -> None:
    assert parse_address(format_address(raw)) == raw
    assert parse_digest(format_digest(raw)) == raw


def test_short_addresses_have_one_long_form() -> None:
    assert normal_address("0x2") == "0x" + "0" * 63 + "2"
    name = parse_type("0x2::coin::Coin<0x2::sui::SUI>")
    assert name == (normal_address("0x2"), "coin", "Coin")


@pytest.mark.parametrize("text", ["", "0x", "2", "0xg", "0x" + "1" * 65, "0x 1"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "0OIl", "abc", "1" * 60])
def test_malformed_digests_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_digest(text)
