"""Who publishes which decision when: active and standby, take-over, repetition, and no step after a fork."""

import pytest

from daas.common.errors import Conflict
from daas.enclave.outbox import Fork, Outbox, Role, require_registry
from daas.placement import Decision, PlacementBatch

OURS, THEIRS = "a" * 64, "b" * 64


def decision(sequence: int, *, mark: int = 0) -> Decision:
    digest = bytes(32)
    batch = PlacementBatch(
        chain=digest,
        registry=digest,
        sequence=sequence,
        previous=digest,
        log_sequence=sequence,
        log_root=digest,
        policy=digest,
        state_root=bytes([mark]) * 32,
        decisions=digest,
        count=0,
        expires_ms=0,
    )
    return Decision(batch=batch, leaves=(), timestamp_ms=0)


def digest(sequence: int, *, mark: int = 0) -> bytes:
    return decision(sequence, mark=mark).batch.digest()


def published(outbox: Outbox, now_ms: int) -> list[tuple[int, int]]:
    return [(due.decision.batch.sequence, due.attempt) for due in outbox.due(now_ms)]


def role(outbox: Outbox) -> Role:
    return outbox.role


def full(outbox: Outbox) -> bool:
    return outbox.full


def make(head: int = 0) -> Outbox:
    outbox = Outbox(OURS.__eq__, takeover_ms=2_000, republish_ms=10_000, limit=8)
    outbox.start(head, digest(head) if head else bytes(32))
    return outbox


def test_on_a_fresh_chain_an_instance_is_active_and_publishes_each_decision_once() -> None:
    outbox = make()
    outbox.decided(decision(1), 0)
    outbox.decided(decision(2), 0)
    assert published(outbox, 0) == [(1, 1), (2, 1)]
    assert published(outbox, 9_999) == []


def test_an_instance_that_finds_a_chain_stands_by_until_a_decision_of_its_own_waits_too_long() -> None:
    outbox = make(head=5)
    outbox.decided(decision(6), 1_000)
    assert published(outbox, 2_999) == []
    assert role(outbox) is Role.STANDBY
    assert published(outbox, 3_000) == [(6, 1)]
    assert role(outbox) is Role.ACTIVE


def test_whoever_was_anchored_last_is_active_and_the_other_stands_by() -> None:
    outbox = make()
    outbox.decided(decision(1), 0)
    assert published(outbox, 0) == [(1, 1)]
    outbox.anchored(1, digest(1), THEIRS)
    assert role(outbox) is Role.STANDBY
    outbox.decided(decision(2), 0)
    assert published(outbox, 0) == []
    outbox.anchored(2, digest(2), OURS)
    assert role(outbox) is Role.ACTIVE
    assert len(outbox) == 0


def test_a_decision_that_is_not_anchored_in_time_is_published_again_with_an_id_of_its_own() -> None:
    outbox = make()
    outbox.decided(decision(1), 0)
    assert published(outbox, 0) == [(1, 1)]
    assert published(outbox, 10_000) == [(1, 2)]


def test_at_most_the_next_few_decisions_are_repeated() -> None:
    outbox = Outbox(OURS.__eq__, limit=100)
    outbox.start(0, bytes(32))
    for sequence in range(1, 21):
        outbox.decided(decision(sequence), 0)
    assert len(published(outbox, 0)) == 20
    assert published(outbox, 10_000) == [(n, 2) for n in range(1, Outbox.REPUBLISH_AT_MOST + 1)]


def test_decisions_made_again_up_to_the_anchored_head_are_not_published() -> None:
    outbox = make(head=3)
    for sequence in (1, 2, 3):
        outbox.decided(decision(sequence), 0)
    assert len(outbox) == 0
    assert published(outbox, 100_000) == []


def test_a_full_outbox_says_so_and_has_room_again_after_an_anchor() -> None:
    outbox = make()
    for sequence in range(1, 9):
        outbox.decided(decision(sequence), 0)
    assert full(outbox)
    outbox.anchored(4, digest(4), OURS)
    assert not full(outbox)
    assert len(outbox) == 4


@pytest.mark.parametrize("anchored_first", [True, False])
def test_an_anchor_that_is_not_our_decision_is_a_fork_whichever_comes_first(anchored_first: bool) -> None:
    outbox = make()
    with pytest.raises(Fork) as fork:  # noqa: PT012 - which of the two raises depends on the order
        if anchored_first:
            outbox.anchored(1, digest(1, mark=1), THEIRS)
            outbox.decided(decision(1), 0)
        else:
            outbox.decided(decision(1), 0)
            outbox.anchored(1, digest(1, mark=1), THEIRS)
    assert fork.value.reason == "fork"


def test_the_anchored_head_is_compared_with_the_decision_made_again() -> None:
    outbox = make(head=3)
    outbox.decided(decision(1, mark=9), 0)
    with pytest.raises(Fork):
        outbox.decided(decision(3, mark=9), 0)


def test_a_challenge_for_another_registry_is_refused() -> None:
    require_registry("0x1", "0x1")
    with pytest.raises(Conflict) as refused:
        require_registry("0x1", "0x2")
    assert refused.value.reason == "registry-changed"
