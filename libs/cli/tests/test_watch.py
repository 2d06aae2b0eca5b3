"""`daas watch`: how facts read."""

from daas.cli.watch import lines
from daas.common.bus import StoredMessage
from daas.common.messages import BoundPod, Message, PlacementBound, PlacementRefused, encode
from daas.common.subjects import PLACEMENT_BOUND, PLACEMENT_REFUSED, Subject


def told(subject: Subject, body: Message | bytes) -> list[str]:
    data = encode(body) if isinstance(body, Message) else body
    return [line.plain for line in lines(StoredMessage(subject.full("dev"), 7, data, {}, 1_000), "dev")]


def bound(count: int) -> PlacementBound:
    pods = tuple(
        BoundPod(pod_uid=f"u{n}", namespace="shop", name=f"web-{n}", node="n1", index=n, created_ms=1, bound_ms=2)
        for n in range(count)
    )
    return PlacementBound(
        sequence=3, payload_digest="ab" * 32, tx_digest="T", decided_ms=1, anchored_ms=2, simulated=True, pods=pods
    )


def test_pods_that_were_bound_together_have_a_line_each() -> None:
    found = told(PLACEMENT_BOUND, bound(2))
    assert [line.partition("placement.bound")[2].strip() for line in found] == [
        "shop/web-0 -> n1 (#3/0) simulated",
        "shop/web-1 -> n1 (#3/1) simulated",
    ]


def test_other_facts_are_one_line_and_what_cannot_be_read_says_so() -> None:
    refused = PlacementRefused(
        sequence=3, payload_digest="ab" * 32, public_key="cd" * 32, decided_sequence=1, reason="forged", message="no",
        simulated=False,
    )  # fmt: skip
    (line,) = told(PLACEMENT_REFUSED, refused)
    assert line.endswith("#3 forged: no")
    for data in (b"{", b"[]", b"{}", b'{"pods":[1],"sequence":1}'):
        (line,) = told(PLACEMENT_BOUND, data)
        assert line.endswith(f"unreadable, {len(data)} bytes")
