"""Streams, consumers and buckets as the catalogue wants them, made where they are missing.

Making is idempotent. What exists is never replaced: a consumer keeps its place, a stream its messages; only what can
be changed in place (limits, subjects, delivery settings) is.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import nats.js.errors
from nats.js import JetStreamContext, api

from daas.common.bus.failures import translated
from daas.common.errors import NotFound
from daas.common.subjects import (
    LIMITS,
    MEBIBYTE,
    Service,
    Stream,
    Subject,
    ack_wait_s,
    durable_name,
    max_deliver,
    stream_name,
    stream_subjects,
)

#: Snapshots: a few of at most some 100 MiB each; whoever writes them deletes the old ones.
BUCKET_MAX_BYTES: Final = 2048 * MEBIBYTE
#: Unacknowledged deliveries per durable, over all instances of a service.
_MAX_ACK_PENDING: Final = 4096


@dataclass(frozen=True, slots=True)
class DurableOptions:
    """How messages of a subject are delivered to a service.

    Attributes:
        in_flight: handlers at once, in one process.
        ack_wait_s: after how many silent seconds a delivery counts as lost; running handlers are not silent.
        max_deliver: after how many failed deliveries a message goes to the dead-letter stream.
    """

    in_flight: int = 64
    ack_wait_s: float = 30.0
    max_deliver: int = 20


def durable_options(service: Service) -> DurableOptions:
    """As the catalogue wants a service's durables."""
    return DurableOptions(ack_wait_s=ack_wait_s(service), max_deliver=max_deliver(service))


def stream_config(cluster: str, stream: Stream, replicas: int) -> api.StreamConfig:
    """A stream of the catalogue: on disk, bounded, oldest out first; single messages cannot be deleted or altered."""
    limits = LIMITS[stream]
    return api.StreamConfig(
        name=stream_name(cluster, stream),
        subjects=stream_subjects(cluster, stream),
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        max_age=limits.max_age_s,
        max_bytes=limits.max_bytes,
        duplicate_window=limits.duplicate_window_s,
        num_replicas=replicas,
        allow_direct=True,
        deny_delete=True,
    )


def durable_config(cluster: str, service: Service, subject: Subject, options: DurableOptions) -> api.ConsumerConfig:
    """The durable pull consumer of a service on a subject."""
    return consumer_config(durable_name(service, subject), [subject.full(cluster)], options)


def consumer_config(name: str, filters: list[str], options: DurableOptions) -> api.ConsumerConfig:
    """A durable pull consumer with explicit acknowledgements."""
    return api.ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=filters[0] if len(filters) == 1 else None,
        filter_subjects=filters if len(filters) > 1 else None,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=options.ack_wait_s,
        max_deliver=options.max_deliver,
        max_ack_pending=max(_MAX_ACK_PENDING, options.in_flight),
        deliver_policy=api.DeliverPolicy.ALL,
    )


async def ensure_stream(js: JetStreamContext, config: api.StreamConfig, *, declare: bool) -> None:
    """Makes the stream, or brings its subjects and limits up to date.

    Raises:
        NotFound: `stream-missing` where it may not be made.
    """
    assert config.name is not None
    with translated(f"stream {config.name}"):
        try:
            found = await js.stream_info(config.name)
        except nats.js.errors.NotFoundError:
            if not declare:
                raise NotFound(
                    f"stream {config.name} does not exist; `daas bus apply` makes it", reason="stream-missing"
                ) from None
            await js.add_stream(config)
            return
        if declare and _differs(found.config, config):
            await js.update_stream(config)


def _differs(found: api.StreamConfig, wanted: api.StreamConfig) -> bool:
    names = ("max_age", "max_bytes", "duplicate_window", "num_replicas", "allow_direct")
    changed = any(getattr(found, name) != getattr(wanted, name) for name in names)
    return changed or sorted(found.subjects or []) != sorted(wanted.subjects or [])


async def ensure_consumer(
    js: JetStreamContext, stream: str, config: api.ConsumerConfig, *, declare: bool, start: int | None = None
) -> api.ConsumerInfo:
    """Makes the consumer, or brings its settings up to date.

    A consumer that has to be made delivers from the stream sequence `start` on; everything if None.

    Raises:
        NotFound: `consumer-missing` where it may not be made.
    """
    assert config.name is not None
    with translated(f"consumer {config.name} on {stream}"):
        try:
            found: api.ConsumerInfo = await js.consumer_info(stream, config.name)
        except nats.js.errors.NotFoundError:
            if not declare:
                raise NotFound(
                    f"consumer {config.name} on {stream} does not exist; `daas bus apply` makes it",
                    reason="consumer-missing",
                ) from None
            if start is not None:
                config = config.evolve(deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=start)
            made: api.ConsumerInfo = await js.add_consumer(stream, config)
            return made
        wanted = (config.ack_wait, config.max_deliver, config.max_ack_pending)
        if declare and wanted != (found.config.ack_wait, found.config.max_deliver, found.config.max_ack_pending):
            place = {"deliver_policy": found.config.deliver_policy, "opt_start_seq": found.config.opt_start_seq}
            found = await js.add_consumer(stream, config.evolve(**place))
        return found


async def ensure_bucket(js: JetStreamContext, bucket: str, replicas: int, *, declare: bool) -> None:
    """Makes the object-store bucket.

    Raises:
        NotFound: `bucket-missing` where it may not be made.
    """
    with translated(f"bucket {bucket}"):
        try:
            await js.object_store(bucket)
        except nats.js.errors.BucketNotFoundError:
            if not declare:
                raise NotFound(
                    f"bucket {bucket} does not exist; `daas bus apply` makes it", reason="bucket-missing"
                ) from None
            config = api.ObjectStoreConfig(bucket=bucket, max_bytes=BUCKET_MAX_BYTES, replicas=replicas)
            await asyncio.wait_for(js.create_object_store(bucket, config), timeout=10)
