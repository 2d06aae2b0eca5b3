"""Invariants of the subject catalogue and of everything derived from it."""

import re

import pytest

from daas.common.bus.declarations import stream_config
from daas.common.errors import InvalidInput
from daas.common.subjects import (
    CATALOGUE,
    LIMITS,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    MEBIBYTE,
    PLACEMENT_DECIDED,
    Kind,
    Service,
    Stream,
    advisory_durable,
    bucket_name,
    by_subject,
    dlq_subject,
    durable_name,
    prefix,
    stream_name,
    stream_subjects,
)


def test_names_are_unique_and_well_formed() -> None:
    names = [subject.name for subject in CATALOGUE]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", name)
        assert not name.startswith("dlq.")


def test_facts_are_kept_and_requests_are_not() -> None:
    for subject in CATALOGUE:
        assert (subject.stream is None) == (subject.kind is Kind.REQUEST)
        assert subject.publishers


def test_every_subject_is_kept_by_exactly_one_stream() -> None:
    kept = [name for stream in Stream for name in stream_subjects("dev", stream)]
    assert len(set(kept)) == len(kept)
    for subject in CATALOGUE:
        assert kept.count(subject.full("dev")) == (0 if subject.kind is Kind.REQUEST else 1)


def test_every_stream_is_bounded_and_keeps_something() -> None:
    assert set(LIMITS) == set(Stream)
    for stream in Stream:
        config = stream_config("dev", stream, 1)
        assert config.subjects
        assert config.max_age == LIMITS[stream].max_age_s > LIMITS[stream].duplicate_window_s
        assert LIMITS[stream].max_bytes >= 16 * MEBIBYTE


def test_durables_are_unique_within_their_stream_and_valid_names() -> None:
    seen = set()
    for subject in CATALOGUE:
        for service in subject.consumers:
            key = (subject.stream, durable_name(service, subject))
            assert key not in seen
            seen.add(key)
            assert re.fullmatch(r"[a-z-]+", key[1])
    assert len({advisory_durable(service) for service in Service}) == len(Service)
    with pytest.raises(InvalidInput, match="not-a-consumer"):
        durable_name(Service.GATEWAY, PLACEMENT_DECIDED)


def test_advisories_about_every_stream_of_facts_are_kept() -> None:
    kept = stream_subjects("dev", Stream.ADVISORY)
    assert "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.DEV_PLACEMENT.*" in kept
    assert "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.DEV_LOG.*" in kept
    assert len(kept) == 2 * len({s.stream for s in CATALOGUE} - {None})


def test_clusters_do_not_meet() -> None:
    for stream in Stream:
        assert not set(stream_subjects("a", stream)) & set(stream_subjects("b", stream))
        assert stream_name("a", stream) != stream_name("b", stream)
    assert bucket_name("a", "x") != bucket_name("b", "x")
    assert not set(by_subject("a")) & set(by_subject("b"))


@pytest.mark.parametrize("cluster", ["", "A", "a.b", "a b", "-a", "a-", "a*", ">", "a" * 64, "a\n"])
def test_a_cluster_is_a_dns_label(cluster: str) -> None:
    with pytest.raises(InvalidInput, match="cluster-name"):
        prefix(cluster)


def test_event_types_say_nothing_of_the_cluster() -> None:
    assert PLACEMENT_DECIDED.full("dev") == "daas.v1.dev.placement.decided"
    assert PLACEMENT_DECIDED.event_type == "daas.v1.placement.decided"
    assert dlq_subject("dev", "PLACEMENT") == "daas.v1.dev.dlq.placement"


def test_a_dead_letter_fits_into_what_the_server_takes() -> None:
    assert 4 * MEBIBYTE + 64 * 1024 < MAX_PAYLOAD_BYTES
    assert MAX_MESSAGE_BYTES < MAX_PAYLOAD_BYTES
