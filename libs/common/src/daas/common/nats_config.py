"""Configuration of nats-server: JetStream, limits, and what each service may publish and subscribe to, all derived from
the subject catalogue.

A service may publish its own facts, dead letters, and those JetStream requests that it needs for its own durables
(making one again after it was deleted included), for reading streams that it publishes to or consumes from, and for
its buckets. It may subscribe to its own inbox prefix and to the requests that it answers, nothing else; all other
subjects are refused by the server. Two limits of NATS' permission language remain: a wildcard stands for a whole
token, so a service that may read a stream by a consumer of its own can name that consumer as it likes, hence disturb
another service's durable on that stream, though never publish in its name; and streams and buckets are made only by
the operator (`daas bus apply`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daas.common.errors import ConfigurationError
from daas.common.subjects import (
    CATALOGUE,
    DLQ,
    MAX_PAYLOAD_BYTES,
    MEBIBYTE,
    SNAPSHOT_BUCKET,
    Kind,
    Service,
    Stream,
    advisory_durable,
    bucket_name,
    durable_name,
    prefix,
    stream_name,
)

#: JetStream refuses streams whose limits add up to more than this; ours add up to less than 24 GiB a cluster.
MAX_FILE_STORE: Final = 256 * 1024 * MEBIBYTE
_NKEY: Final = re.compile(r"U[A-Z2-7]{55}")
_API: Final = "$JS.API"

#: Who writes and who reads each object-store bucket.
BUCKET_WRITERS: Final = {SNAPSHOT_BUCKET: frozenset({Service.ENCLAVE})}
BUCKET_READERS: Final = {SNAPSHOT_BUCKET: frozenset({Service.ENCLAVE, Service.STORAGE, Service.CLI})}
#: They look at everything and publish no fact.
_OBSERVERS: Final = frozenset({Service.CLI, Service.MONITOR, Service.OPERATOR})


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one NATS user may do. Sorted subject patterns; what is not listed is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool


def inbox_prefix(service: Service) -> str:
    """The prefix of a service's inboxes. One per service, so that nobody can listen to another's answers."""
    return f"_INBOX_{service.value}"


def _durable(stream: str, durable: str, filter_subject: str | None) -> Iterable[str]:
    yield f"{_API}.CONSUMER.INFO.{stream}.{durable}"
    yield f"{_API}.CONSUMER.MSG.NEXT.{stream}.{durable}"
    yield f"{_API}.CONSUMER.CREATE.{stream}.{durable}" + (f".{filter_subject}" if filter_subject else "")
    yield f"$JS.ACK.{stream}.{durable}.>"


def _reading(stream: str) -> Iterable[str]:
    yield f"{_API}.STREAM.INFO.{stream}"
    yield f"{_API}.DIRECT.GET.{stream}"
    yield f"{_API}.DIRECT.GET.{stream}.>"
    yield f"{_API}.CONSUMER.CREATE.{stream}.>"
    yield f"{_API}.CONSUMER.MSG.NEXT.{stream}.*"


def _bucket(bucket: str, *, writes: bool) -> Iterable[str]:
    stream = f"OBJ_{bucket}"
    yield f"{_API}.STREAM.NAMES"
    yield f"{_API}.STREAM.INFO.{stream}"
    yield f"{_API}.STREAM.MSG.GET.{stream}"
    yield f"{_API}.DIRECT.GET.{stream}"
    yield f"{_API}.DIRECT.GET.{stream}.>"
    yield f"{_API}.CONSUMER.CREATE.{stream}"
    yield f"{_API}.CONSUMER.CREATE.{stream}.>"
    yield f"{_API}.CONSUMER.DELETE.{stream}.*"
    yield f"$JS.FC.{stream}.>"
    if writes:
        yield f"{_API}.STREAM.PURGE.{stream}"
        yield f"$O.{bucket}.>"


def permissions(cluster: str, service: Service) -> Permissions:
    """What the catalogue gives to one service of a cluster."""
    if service is Service.OPERATOR:
        return Permissions(
            (f"{_API}.>", "$JS.FC.>", "$O.>"), (f"{inbox_prefix(service)}.>", f"{prefix(cluster)}.>"), answers=False
        )
    publish = {f"{_API}.INFO"}
    subscribe = {f"{inbox_prefix(service)}.>"}
    streams: set[Stream] = set(Stream) - {Stream.ADVISORY} if service in _OBSERVERS else set()
    answers = False
    for subject in CATALOGUE:
        full = subject.full(cluster)
        if service in subject.publishers:
            publish.add(full)
        if service in subject.consumers and subject.kind is Kind.REQUEST:
            subscribe.add(full)
            answers = True
        if subject.stream is None:
            continue
        if service in subject.consumers:
            publish.update(_durable(stream_name(cluster, subject.stream), durable_name(service, subject), full))
        if service in subject.consumers | subject.publishers:
            streams.add(subject.stream)
    for stream in streams:
        publish.update(_reading(stream_name(cluster, stream)))
    if service in _OBSERVERS:
        subscribe.add(f"{prefix(cluster)}.>")
        publish.update(f"{_API}.{what}" for what in ("STREAM.NAMES", "STREAM.LIST", "CONSUMER.NAMES.*"))
        publish.update(f"{_API}.{what}" for what in ("CONSUMER.LIST.*", "CONSUMER.INFO.*.*"))
        publish.add(f"{_API}.STREAM.INFO.{stream_name(cluster, Stream.ADVISORY)}")
    else:
        publish.add(f"{prefix(cluster)}.{DLQ}.>")
        publish.add(f"{_API}.STREAM.INFO.{stream_name(cluster, Stream.DLQ)}")
        publish.add(f"{_API}.STREAM.INFO.{stream_name(cluster, Stream.ADVISORY)}")
        publish.update(_durable(stream_name(cluster, Stream.ADVISORY), advisory_durable(service), None))
    for bucket, readers in BUCKET_READERS.items():
        writes = service in BUCKET_WRITERS[bucket]
        if writes or service in readers:
            publish.update(_bucket(bucket_name(cluster, bucket), writes=writes))
    return Permissions(tuple(sorted(publish)), tuple(sorted(subscribe)), answers)


def authorization(cluster: str, credentials: Mapping[Service, str]) -> str:
    """The `authorization` block of nats-server's configuration, one user per service.

    Args:
        cluster: whose subjects they may use.
        credentials: per service a public NKey (`U...`), or a password, in clear or bcrypt, for development and tests.

    Raises:
        ConfigurationError: `nats-credentials` where two services share one, or one is shorter than 16 characters.
    """
    values = list(credentials.values())
    if len(set(values)) != len(values) or any(len(value) < 16 for value in values):
        raise ConfigurationError(
            "each service needs a credential of its own of at least 16 characters", reason="nats-credentials"
        )
    users = []
    for service, credential in sorted(credentials.items()):
        granted = permissions(cluster, service)
        rights: dict[str, object] = {
            "publish": {"allow": list(granted.publish)},
            "subscribe": {"allow": list(granted.subscribe)},
        }
        if granted.answers:
            rights["allow_responses"] = {"max": 1, "expires": "120s"}
        if _NKEY.fullmatch(credential):
            users.append({"nkey": credential, "permissions": rights})
        else:
            users.append({"user": service.value, "password": credential, "permissions": rights})
    # nats-server's configuration language takes JSON values; in quoted strings `$` is no variable.
    return f"authorization: {json.dumps({'timeout': 2, 'users': users}, indent=1)}\n"


def server_config(
    *,
    server_name: str,
    store_dir: Path,
    host: str = "127.0.0.1",
    port: int = -1,
    monitor_port: int = -1,
    sync_always: bool = False,
) -> str:
    """A nats-server configuration without users.

    Args:
        server_name: clients check it, so that nobody talks to a stranger on a reused port.
        store_dir: where JetStream keeps its files.
        host: the address to listen on, for clients and for monitoring.
        port: for clients; -1 lets the server choose (and write it to `--ports_file_dir`).
        monitor_port: for /varz, /jsz, /healthz; -1 likewise.
        sync_always: fsync every message. Without it a kill -9 of the server loses nothing, a power cut up to two
            minutes; production sets it or runs three replicas.
    """
    jetstream: dict[str, object] = {"store_dir": str(store_dir), "max_file_store": MAX_FILE_STORE}
    if sync_always:
        jetstream["sync_interval"] = "always"
    settings = {
        "server_name": server_name,
        "host": host,
        "port": port,
        "http": f"{host}:{monitor_port}",
        "max_payload": MAX_PAYLOAD_BYTES,
        "max_pending": 16 * MAX_PAYLOAD_BYTES,
        "jetstream": jetstream,
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
