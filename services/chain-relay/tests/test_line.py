"""Runs of decisions: consecutive, each following the one before it, whatever else waits in the line."""

from contextlib import ExitStack

import pytest

from daas.common.errors import Refused
from daas.common.messages import Header, PlacementDecided
from daas.common.service import Event
from daas.relay.line import Candidate, Line


def digest(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def candidate(sequence: int, name: str, previous: str, *, message: int = 0, joined_s: float = 0.0) -> Candidate:
    header = Header(
        chain=digest(""),
        registry="0x" + "22" * 32,
        sequence=sequence,
        previous=digest(previous),
        log_sequence=sequence,
        log_root=digest(""),
        policy=digest(""),
        state_root=digest(""),
        decisions=digest(""),
        count=0,
        expires_ms=0,
    )
    body = PlacementDecided(
        header=header,
        payload_digest=digest(name),
        timestamp_ms=0,
        public_key=digest("key"),
        signature="00" * 64,
        simulated=True,
        leaves=(),
    )
    event = Event(
        body=body, sequence=message or sequence, headers={}, time_ms=0, deliveries=1, raw=b"", traceparent=None
    )
    return Candidate(event, "0x01", joined_s)


@pytest.fixture
def line() -> Line:
    return Line()


async def test_a_run_ends_where_a_number_is_missing(line: Line) -> None:
    waiting = [candidate(3, "c", "b"), candidate(1, "a", "head"), candidate(2, "b", "a"), candidate(5, "e", "d")]
    with ExitStack() as stack:
        for each in waiting:
            stack.enter_context(line.joined(each))
        assert [c.member.sequence for c in line.run(1, digest("head"), 32)] == [1, 2, 3]
        assert [c.member.sequence for c in line.run(1, digest("head"), 2)] == [1, 2]
        assert line.run(4, digest("c"), 32) == []
        assert len(line) == 4
    assert len(line) == 0


async def test_of_a_fork_the_branch_that_follows_the_head_is_taken(line: Line) -> None:
    forked = candidate(1, "x", "elsewhere", message=7)
    with line.joined(forked), line.joined(candidate(1, "a", "head")), line.joined(candidate(2, "b", "a")):
        assert [c.member.payload_digest for c in line.run(1, digest("head"), 32)] == [digest("a"), digest("b")]
        assert line.run(1, digest("other"), 32) == []


async def test_what_has_its_outcome_is_in_no_run_and_keeps_its_first_outcome(line: Line) -> None:
    one = candidate(1, "a", "head")
    with line.joined(one):
        one.settle(Refused("no", reason="no"))
        one.settle()
        assert line.run(1, digest("head"), 32) == []
        assert line.up_to(9) == []
        with pytest.raises(Refused):
            await one.outcome


async def test_members_are_found_only_where_all_of_them_wait(line: Line) -> None:
    first, second = candidate(1, "a", "head"), candidate(2, "b", "a")
    with line.joined(second):
        assert line.of([first.member, second.member]) == []
        with line.joined(first):
            assert line.of([first.member, second.member]) == [first, second]


async def test_those_that_waited_too_long_are_told_apart(line: Line) -> None:
    old, young = candidate(4, "d", "c", joined_s=1.0), candidate(5, "e", "d", joined_s=2.0)
    with line.joined(young), line.joined(old):
        assert line.waiting_since(1.5) == [old]
        assert line.waiting_since(2.5) == [old, young]
