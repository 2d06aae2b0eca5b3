"""What the outbox promises: bytes before the first send, one transaction per intention, nothing forgotten."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.common.errors import Conflict
from daas.ledger import SignedTransaction
from daas.relay.outbox import AnchorRecord, Cursor, KeyRecord, Member, Outbox


def transaction(name: str, signatures: int = 1) -> SignedTransaction:
    return SignedTransaction(data=name.encode() * 40, signatures=(bytes(97),) * signatures, digest=f"digest-{name}")


def member(sequence: int) -> Member:
    return Member(sequence, f"{sequence:064x}", "aa" * 32, 100 + sequence, None)


def record(sequence: int, message: int | None = None, checkpoint: int | None = None) -> AnchorRecord:
    return AnchorRecord(sequence, f"{sequence:064x}", "aa" * 32, f"tx-{sequence}", checkpoint, checkpoint, message)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "outbox.sqlite"


def test_what_was_prepared_is_there_after_a_restart_with_its_members(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.prepare("anchor:1", transaction("a", 2), [member(1), member(2)])
    with Outbox(path) as outbox:
        (found,) = outbox.opened()
        assert found.transaction == transaction("a", 2)
        assert found.members == (member(1), member(2))
        assert not found.settled


def test_a_second_transaction_for_the_same_intention_is_refused_until_the_first_is_forgotten(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.prepare("key", transaction("a"), [member(1)])
        with pytest.raises(Conflict):
            outbox.prepare("key", transaction("b"), [member(1)])
        outbox.forget("key")
        outbox.prepare("key", transaction("b"), [member(1)])
        assert [o.transaction.digest for o in outbox.opened()] == ["digest-b"]


def test_a_settled_registration_is_still_found_but_no_longer_open(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.prepare("register:k", transaction("a"))
        outbox.settle("register:k")
        assert outbox.opened() == []
        found = outbox.prepared("register:k")
        assert found is not None
        assert found.settled


def test_settled_anchors_stay_open_until_their_facts_are_out(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.prepare("anchor:1", transaction("a"), [member(1)])
        outbox.settle("anchor:1")
        assert [o.key for o in outbox.opened()] == ["anchor:1"]
        outbox.anchored("anchor:1", [record(1, 101)])
        assert outbox.opened() == []
        assert outbox.prepared("anchor:1") is None


def test_an_anchor_keeps_what_is_known_of_it_from_whichever_side(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.anchored(None, [record(1, checkpoint=9)])
        outbox.anchored(None, [record(1, message=101)])
        assert outbox.anchor(1) == record(1, 101, 9)
        outbox.anchored(None, [record(1, message=102)])
        assert outbox.anchor(1) == record(1, 101, 9)


def test_anchors_are_remembered_for_as_long_as_messages_can_come_again(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.anchored(None, [record(n) for n in (1, 2, 3)])
        outbox.anchored(None, [record(Outbox.KEEP + 2)])
        assert outbox.anchor(2) is None
        assert outbox.anchor(3) == record(3)
        newest = outbox.newest_anchor()
        assert newest is not None
        assert newest.sequence == Outbox.KEEP + 2


def test_of_two_registrations_of_a_key_the_newest_that_is_not_over_counts(path: Path) -> None:
    first = KeyRecord("0x01", "aa", 1, 10, 100)
    second = replace(first, enclave="0x02", registered_ms=20)
    with Outbox(path) as outbox:
        outbox.registered(first)
        outbox.registered(second)
        assert outbox.key("aa") == second
        outbox.end("0x02", "revoked")
        assert outbox.key("aa") == first
        outbox.end("0x01", "expired")
        outbox.end("0x01", "revoked")
        found = outbox.key("aa")
        assert found is not None
        assert found.over is not None
        assert outbox.current_keys() == []
        outbox.registered(second)
        assert outbox.current_keys() == [], "an event that is taken again revives nothing"


def test_the_cursor_and_the_positions_move_together(path: Path) -> None:
    with Outbox(path) as outbox:
        assert outbox.cursor() is None
        outbox.advance(Cursor(5, "d5"), {"CHAIN": 3})
        outbox.advance(Cursor(6, "d6"), {"CHAIN": 4, "ENCLAVE": 1})
    with Outbox(path) as outbox:
        assert outbox.cursor() == Cursor(6, "d6")
        assert outbox.positions() == {"CHAIN": 4, "ENCLAVE": 1}


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.tuples(st.sampled_from(["prepare", "settle", "forget", "reopen"]), st.integers(0, 3))))
def test_whatever_happens_each_intention_has_one_transaction_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "outbox.sqlite"
    outbox = Outbox(path)
    expected: dict[str, str] = {}
    try:
        for number, (step, which) in enumerate(steps):
            key = f"key-{which}"
            if step == "prepare" and key in expected:
                with pytest.raises(Conflict):
                    outbox.prepare(key, transaction(f"t{number}"), [member(which)])
            elif step == "prepare":
                outbox.prepare(key, transaction(f"t{number}"), [member(which)])
                expected[key] = f"digest-t{number}"
            elif step == "settle":
                outbox.settle(key)
            elif step == "forget":
                outbox.forget(key)
                expected.pop(key, None)
            else:
                outbox.close()
                outbox = Outbox(path)
        assert {o.key: o.transaction.digest for o in outbox.opened()} == expected
    finally:
        outbox.close()
