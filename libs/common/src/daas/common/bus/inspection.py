"""What is on a NATS server held against the catalogue: streams, durables, buckets, and what to do where they differ."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import StrEnum

import nats.js.errors
from nats.js import api

from daas.common.bus.advisories import advisory_config
from daas.common.bus.connection import Bus
from daas.common.bus.declarations import durable_config, durable_options, stream_config
from daas.common.bus.failures import translated
from daas.common.subjects import (
    CATALOGUE,
    SNAPSHOT_BUCKET,
    Stream,
    advisory_durable,
    bucket_name,
    durable_name,
    stream_name,
)

APPLY = "`daas bus apply` makes it so"


class Grade(StrEnum):
    """How bad a difference is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: `stream PROD_LOG`, `consumer PROD_LOG > storage-log-cluster`, ...
        says: what is there, or how it differs.
        advice: what to do; empty where there is nothing to do.
    """

    grade: Grade
    what: str
    says: str
    advice: str = ""


async def inspect(bus: Bus) -> list[Finding]:
    """Everything that differs from the catalogue, and a line for everything that doesn't.

    Raises:
        Refused: this user may not look.
        Unavailable: the server is away.
    """
    await bus.wait_connected(bus.settings.nats_start_timeout_s)
    findings: list[Finding] = []
    for stream in Stream:
        findings += [finding async for finding in _stream(bus, stream)]
    findings += [finding async for finding in _strangers(bus)]
    findings.append(await _bucket(bus, SNAPSHOT_BUCKET))
    return findings


async def _stream(bus: Bus, stream: Stream) -> AsyncIterator[Finding]:
    wanted = stream_config(bus.cluster, stream, bus.settings.nats_replicas)
    name = stream_name(bus.cluster, stream)
    with translated(f"stream {name}"):
        try:
            found = await bus.jetstream.stream_info(name)
        except nats.js.errors.NotFoundError:
            yield Finding(Grade.WRONG, f"stream {name}", "does not exist", APPLY)
            return
        consumers = {c.name: c for c in await bus.jetstream.consumers_info(name) if c.name}
    wrong = list(_stream_differences(found.config, wanted))
    state = found.state
    if wrong:
        yield Finding(Grade.WRONG, f"stream {name}", "; ".join(wrong), APPLY)
    else:
        yield Finding(Grade.OK, f"stream {name}", f"{state.messages} messages, {state.bytes} bytes, as declared")
    replicas = found.cluster.replicas if found.cluster is not None and found.cluster.replicas else []
    behind = [peer.name for peer in replicas if peer.offline or not peer.current]
    if behind:
        yield Finding(
            Grade.WARNING,
            f"stream {name}",
            f"replicas are not current: {', '.join(str(peer) for peer in behind)}",
            "look at these servers: one more loss stops the stream",
        )
    known = dict(_durables(bus.cluster, stream))
    for durable, config in known.items():
        yield _consumer(name, durable, config, consumers.get(durable))
    for durable in sorted(n for n, info in consumers.items() if n not in known and info.config.durable_name):
        yield Finding(
            Grade.WARNING,
            f"consumer {name} > {durable}",
            "is a durable that the catalogue does not know",
            "find out who made it, then remove it: `nats consumer rm`",
        )


def _stream_differences(found: api.StreamConfig, wanted: api.StreamConfig) -> Iterable[str]:
    if sorted(found.subjects or []) != sorted(wanted.subjects or []):
        missing = sorted(set(wanted.subjects or []) - set(found.subjects or []))
        more = sorted(set(found.subjects or []) - set(wanted.subjects or []))
        yield f"subjects: {len(missing)} missing {missing[:3]}, {len(more)} too many {more[:3]}"
    for name in ("retention", "storage", "max_age", "max_bytes", "duplicate_window", "num_replicas"):
        if getattr(found, name) != getattr(wanted, name):
            yield f"{name} is {getattr(found, name)}, expected {getattr(wanted, name)}"
    for name in ("allow_direct", "deny_delete"):
        if not getattr(found, name):
            yield f"{name} is off: messages of the log can be altered" if name == "deny_delete" else f"{name} is off"


def _durables(cluster: str, stream: Stream) -> Iterable[tuple[str, api.ConsumerConfig]]:
    for subject in CATALOGUE:
        for service in sorted(subject.consumers):
            if subject.stream is stream:
                config = durable_config(cluster, service, subject, durable_options(service))
                yield durable_name(service, subject), config
    if stream is Stream.ADVISORY:
        advised = {service for subject in CATALOGUE if subject.stream is not None for service in subject.consumers}
        for service in sorted(advised):
            yield advisory_durable(service), advisory_config(cluster, service)


def _consumer(stream: str, durable: str, wanted: api.ConsumerConfig, found: api.ConsumerInfo | None) -> Finding:
    what = f"consumer {stream} > {durable}"
    if found is None:
        return Finding(
            Grade.WARNING,
            what,
            "is not there",
            "its service makes it at its first start; with DAAS_NATS_DECLARE=false, `daas bus apply --consumers`",
        )
    if _filters(found.config) != _filters(wanted):
        return Finding(
            Grade.WRONG,
            what,
            f"takes {sorted(_filters(found.config))}, expected {sorted(_filters(wanted))}",
            "stop its service, remove the durable (`nats consumer rm`), start the service",
        )
    if found.config.ack_policy != api.AckPolicy.EXPLICIT:
        return Finding(Grade.WRONG, what, "does not ask for acknowledgements", "remove it and start its service")
    if found.config.ack_wait != wanted.ack_wait:
        says = f"waits {found.config.ack_wait} s for an acknowledgement, expected {wanted.ack_wait}"
        return Finding(Grade.WARNING, what, says, "`daas bus apply --consumers`")
    if found.config.max_deliver != wanted.max_deliver:
        says = f"gives up after {found.config.max_deliver} deliveries, expected {wanted.max_deliver}"
        return Finding(Grade.WRONG, what, says, "`daas bus apply --consumers`")
    pending, unacknowledged = found.num_pending or 0, found.num_ack_pending or 0
    return Finding(Grade.OK, what, f"{pending} waiting, {unacknowledged} in work")


def _filters(config: api.ConsumerConfig) -> set[str]:
    return set(config.filter_subjects or [config.filter_subject or ">"])


async def _strangers(bus: Bus) -> AsyncIterator[Finding]:
    """Streams under the cluster's name, or on its subjects, that the catalogue does not know."""
    known = {stream_name(bus.cluster, stream) for stream in Stream}
    with translated("streams"):
        infos = await bus.jetstream.streams_info()
    own = f"daas.v1.{bus.cluster}."
    for info in infos:
        name = info.config.name or ""
        listens = any(subject.startswith(own) for subject in info.config.subjects or [])
        if name not in known and (listens or name.startswith(f"{bus.cluster.upper()}_")):
            yield Finding(
                Grade.WARNING,
                f"stream {name}",
                "is not of the catalogue",
                "find out who made it: it may keep what is on the bus",
            )


async def _bucket(bus: Bus, bucket: str) -> Finding:
    name = bucket_name(bus.cluster, bucket)
    with translated(f"bucket {name}"):
        try:
            store = await bus.jetstream.object_store(name)
            status = await store.status()
        except nats.js.errors.BucketNotFoundError:
            return Finding(Grade.WRONG, f"bucket {name}", "does not exist", APPLY)
    return Finding(Grade.OK, f"bucket {name}", f"{status.size} bytes")
