"""One service's view of the bus: publish, look up, read in order, keep objects, bury what nobody can take."""

import asyncio
import base64
import json
import random
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Self

import nats.errors
from nats.aio.msg import Msg
from nats.js import api

from daas.common import envelope, merkle, tracing
from daas.common.bus import declarations, objects
from daas.common.bus.advisories import advisory_config
from daas.common.bus.failures import translate, translated
from daas.common.bus.link import Link, log
from daas.common.bus.message import StoredMessage, directly_got
from daas.common.bus.reader import read_stream
from daas.common.bus.requests import A, ask
from daas.common.errors import DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.common.messages import DeadLetter, Message, encode
from daas.common.metrics import BusMetrics
from daas.common.settings import BusSettings
from daas.common.subjects import (
    CATALOGUE,
    DLQ,
    MAX_MESSAGE_BYTES,
    MEBIBYTE,
    SNAPSHOT_BUCKET,
    Service,
    Stream,
    Subject,
    bucket_name,
    by_subject,
    dlq_subject,
    stream_name,
)

#: One attempt to publish; a server that recovers its streams may take seconds.
_ATTEMPT_S: Final = 5.0
_BACKOFF_S: Final = (0.05, 1.0)
_REQUEST_S: Final = 5.0
_EXPECTED: Final = api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_DEAD_BODY_BYTES: Final = 3 * MEBIBYTE
_DEAD_HEADERS: Final = 32
_DEAD_HEADER_CHARS: Final = 1024


class Bus(Link):
    """The bus as one service sees it. `async with Bus(service, settings) as bus`, or `await Bus.connect(...)`.

    Args:
        service: who speaks; it may publish only what the catalogue gives it.
        settings: where the servers are.
        metrics: what to count on; a registry of its own by default.
    """

    def __init__(self, service: Service, settings: BusSettings, metrics: BusMetrics | None = None) -> None:
        super().__init__(service, settings, metrics)
        self.cluster = settings.cluster
        self._by_subject = by_subject(self.cluster)
        self._slots = asyncio.Semaphore(settings.nats_publish_in_flight)

    @classmethod
    async def connect(cls, service: Service, settings: BusSettings, metrics: BusMetrics | None = None) -> Self:
        """A connected bus.

        Raises:
            Unavailable: `nats-unreachable` after `nats_start_timeout_s`.
            Refused: `nats-authorization`.
        """
        bus = cls(service, settings, metrics)
        await bus.open()
        return bus

    async def __aenter__(self) -> Self:
        if self._broker is None:
            await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(
        self,
        subject: Subject,
        body: Message | bytes,
        *,
        message_id: str,
        time_ms: int | None = None,
        traceparent: str | None = None,
        after: int | None = None,
    ) -> int:
        """Publishes a fact and waits until its stream has stored it.

        Args:
            subject: a row of the catalogue that keeps a stream.
            body: a message, or its bytes as they are to be stored.
            message_id: says what happened, not when it was sent: the same id within the stream's duplicate window is
                stored once.
            time_ms: when it happened; now by default.
            traceparent: of the trace it belongs to; by default that of the running handler, else a new one.
            after: stream sequence of the newest message on this subject that the caller knows (0: none): only right
                behind that one it is stored.

        Returns:
            The stream sequence: of the first message with this id, if it is a duplicate.

        Raises:
            Conflict: `not-after`: the newest message on the subject is another than `after`; it may be this very one,
                where the answer to an earlier attempt was lost.
            Refused: `not-a-publisher`, `nats-permissions`, `jetstream-refused`.
            InvalidInput: `oversize`, `message-id`.
            Unavailable: not stored within `nats_publish_timeout_s`; it may or may not be stored later.
        """
        if self.service not in subject.publishers:
            raise Refused(f"{self.service.value} may not publish {subject.name}", reason="not-a-publisher")
        if subject.stream is None:
            raise InvalidInput(f"{subject.name} is a request: no stream keeps it", reason="no-stream")
        data = encode(body) if isinstance(body, Message) else body
        if len(data) > MAX_MESSAGE_BYTES:
            raise InvalidInput(
                f"{len(data)} bytes for {subject.name}, at most {MAX_MESSAGE_BYTES} are allowed", reason="oversize"
            )
        with tracing.span(f"publish {subject.name}", kind=tracing.Kind.PRODUCER, parent=traceparent) as trace:
            headers = envelope.seal(
                self.service,
                subject.event_type,
                message_id,
                time_ms=time_ms,
                traceparent=trace.traceparent if trace is not None else traceparent,
            )
            if after is not None:
                headers[_EXPECTED] = str(after)
            return await self._store(subject.full(self.cluster), subject.name, subject.stream, data, headers)

    async def _store(self, full: str, label: str, stream: Stream, data: bytes, headers: dict[str, str]) -> int:
        started = time.monotonic()
        deadline = started + self.settings.nats_publish_timeout_s
        delay, longest = _BACKOFF_S
        name = stream_name(self.cluster, stream)
        try:
            async with self._slots:
                while True:
                    failure: DaasError
                    try:
                        return await self._attempt(full, name, data, headers, deadline)
                    except (nats.errors.Error, TimeoutError, OSError) as error:
                        failure = translate(error, f"publish {label}")
                    except Unavailable as error:
                        failure = error
                    if full.lower() in self.denied:
                        raise Refused(f"NATS refused: {self.denied[full.lower()]}", reason="nats-permissions")
                    if not isinstance(failure, Unavailable) or time.monotonic() + delay > deadline:
                        raise failure
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                    delay = min(2 * delay, longest)
        except DaasError as error:
            self.metrics.publish_failed.labels(label, error.reason).inc()
            raise
        else:
            raise AssertionError
        finally:
            self.metrics.publish_seconds.labels(label).observe(time.monotonic() - started)

    async def _attempt(self, full: str, stream: str, data: bytes, headers: dict[str, str], deadline: float) -> int:
        remaining = max(0.01, deadline - time.monotonic())
        await self.wait_connected(remaining)
        acknowledged = await self.broker.publish(
            data,
            full,
            headers=dict(headers),
            correlation_id=headers[envelope.CE_ID],
            stream=stream,
            timeout=min(_ATTEMPT_S, remaining),
        )
        row = self._by_subject.get(full)
        self.metrics.published.labels(row.name if row else DLQ).inc()
        return acknowledged.seq

    async def request(self, subject: Subject, body: Message, answer: type[A], *, timeout_s: float) -> A:
        """Asks a question and waits for its answer.

        Args:
            subject: a row of the catalogue of kind request.
            body: the question.
            answer: what to decode the answer to.
            timeout_s: how long to wait, at most 120 s; the answerer is told.

        Raises:
            InvalidInput, Refused, Conflict, NotFound, Unavailable: as the answerer refused, with its reason and field.
            Unavailable: `no-responders`, `request-timeout`, `busy`, `malformed-answer`, `nats-disconnected`.
            Refused: `not-a-publisher`, `nats-permissions`.
            DecodeError: the answer is malformed.
        """
        return await ask(self, subject, body, answer, timeout_s)

    async def _request(self, subject: str, body: bytes, what: str) -> Msg:
        await self.wait_connected(_REQUEST_S)
        with translated(what):
            return await self.client.request(subject, body, timeout=_REQUEST_S)

    async def fetch(self, stream: Stream, sequence: int) -> StoredMessage:
        """The message at a stream sequence.

        Raises:
            NotFound: `no-message`: there is none (yet), or it has been removed by the stream's limits.
            Unavailable: the server is away.
        """
        name = stream_name(self.cluster, stream)
        body = json.dumps({"seq": sequence}).encode()
        answer = await self._request(f"$JS.API.DIRECT.GET.{name}", body, f"message {sequence} of {name}")
        found = _found(answer)
        if found is None or found.sequence != sequence:
            raise NotFound(f"stream {name} has no message {sequence}", reason="no-message")
        return found

    async def last(self, subject: Subject) -> StoredMessage | None:
        """The newest message on a subject; None if there is none.

        Raises:
            Unavailable: the server is away.
        """
        if subject.stream is None:
            raise InvalidInput(f"{subject.name} is a request: no stream keeps it", reason="no-stream")
        name = stream_name(self.cluster, subject.stream)
        full = subject.full(self.cluster)
        return _found(await self._request(f"$JS.API.DIRECT.GET.{name}.{full}", b"", f"last {subject.name}"))

    async def stream_bounds(self, stream: Stream) -> tuple[int, int]:
        """The first and the last sequence kept. An empty stream has last = first - 1, or (0, 0) if it was never used.

        Raises:
            NotFound: the stream does not exist.
        """
        name = stream_name(self.cluster, stream)
        await self.wait_connected(_REQUEST_S)
        with translated(f"stream {name}"):
            state = (await self.jetstream.stream_info(name)).state
        return state.first_seq, state.last_seq

    @property
    def catalogue(self) -> tuple[Subject, ...]:
        """The subjects of the cluster."""
        return tuple(self._by_subject.values())

    @staticmethod
    def unique() -> str:
        """A name that nobody else has: 16 hex digits."""
        return secrets.token_hex(8)

    def read(
        self, stream: Stream, *, start: int = 1, subjects: Sequence[Subject] | None = None
    ) -> AsyncGenerator[StoredMessage, None]:
        """The messages of a stream from `start` on, in order, without a gap or a repetition, for ever.

        It goes on through reconnections and the loss of its consumer. Breaking out of the loop ends it; use
        `contextlib.aclosing` to end it at a known moment.

        Args:
            stream: which stream.
            start: the first stream sequence wanted.
            subjects: only these; all by default.

        Raises:
            NotFound: `gap`: messages from `start` on have been removed by the stream's limits. Checked before the
                first message and whenever reading has to start over; for whole streams at every message.
        """
        return read_stream(self, stream, start, subjects)

    async def dead_letter(self, original: StoredMessage, error: DaasError, *, deliveries: int = 1) -> None:
        """Keeps a message that nobody can take, with the reason, in the dead-letter stream.

        The same message refused twice by one service is kept once. Of one that holds a secret (`error.redacted`) only
        a digest is kept.

        Raises:
            Unavailable: it is not kept; the original must not be given up.
        """
        row = self._by_subject.get(original.subject)
        stream = row.stream.value if row is not None and row.stream is not None else "UNKNOWN"
        headers = list(original.headers.items())[:_DEAD_HEADERS]
        letter = DeadLetter(
            subject=original.subject[:_DEAD_HEADER_CHARS],
            stream=stream,
            stream_sequence=original.sequence or None,
            service=self.service.value,
            reason=error.reason[:253],
            message=error.message[:4096],
            field=error.field[:4096] if error.field else None,
            deliveries=deliveries,
            headers={key[:_DEAD_HEADER_CHARS]: value[:_DEAD_HEADER_CHARS] for key, value in headers},
            body="" if error.redacted else base64.b64encode(original.data[:_DEAD_BODY_BYTES]).decode(),
            truncated=error.redacted or len(original.data) > _DEAD_BODY_BYTES,
            digest=merkle.digest(original.data).hex() if error.redacted else None,
        )
        sealed = envelope.seal(
            self.service,
            f"daas.v1.{DLQ}.{stream.lower()}",
            f"{DLQ}:{stream}:{original.sequence}:{self.service.value}",
            traceparent=original.headers.get(envelope.TRACEPARENT),
        )
        await self._store(dlq_subject(self.cluster, stream), DLQ, Stream.DLQ, encode(letter), sealed)
        label = row.name if row is not None else "unknown"
        self.metrics.dead_letters.labels(label, error.reason).inc()
        log.warning("dead letter", subject=label, sequence=original.sequence, error=error, deliveries=deliveries)

    async def put_object(self, bucket: str, name: str, data: bytes) -> None:
        """Keeps an object, in place of one of the same name. Raises Unavailable when it is not kept."""
        await self.wait_connected(_REQUEST_S)
        await objects.put(self.jetstream, bucket_name(self.cluster, bucket), name, data)

    async def get_object(self, bucket: str, name: str) -> bytes:
        """An object, its digest checked.

        Raises:
            NotFound: `no-object`.
            Unavailable: the server is away.
        """
        await self.wait_connected(_REQUEST_S)
        return await objects.get(self.jetstream, bucket_name(self.cluster, bucket), name)

    async def delete_object(self, bucket: str, name: str) -> None:
        """Removes an object; nothing happens if there is none."""
        await self.wait_connected(_REQUEST_S)
        await objects.delete(self.jetstream, bucket_name(self.cluster, bucket), name)

    async def list_objects(self, bucket: str) -> list[str]:
        """The names of a bucket's objects, sorted; none if there is no bucket."""
        await self.wait_connected(_REQUEST_S)
        return await objects.names(self.jetstream, bucket_name(self.cluster, bucket))

    async def declare(self, *, consumers: bool = False) -> None:
        """Makes every stream and bucket of the catalogue, and with `consumers` every durable; idempotent.

        Raises:
            Refused: the server does not let us.
            Unavailable: the server is away.
        """
        await self.wait_connected(self.settings.nats_start_timeout_s)
        for stream in Stream:
            await self.ensure_stream(stream, make=True)
        await self.ensure_bucket(SNAPSHOT_BUCKET, make=True)
        for row in self._by_subject.values() if consumers else ():
            if row.stream is None:
                continue
            for service in sorted(row.consumers):
                config = declarations.durable_config(self.cluster, service, row, declarations.durable_options(service))
                name = stream_name(self.cluster, row.stream)
                await declarations.ensure_consumer(self.jetstream, name, config, declare=True)
        advised = {service for row in CATALOGUE if row.stream is not None for service in row.consumers}
        for service in sorted(advised) if consumers else ():
            config = advisory_config(self.cluster, service)
            name = stream_name(self.cluster, Stream.ADVISORY)
            await declarations.ensure_consumer(self.jetstream, name, config, declare=True)

    async def ensure_stream(self, stream: Stream, *, make: bool | None = None) -> None:
        """Makes one stream of the catalogue where it is missing (if `make`, by default the setting, allows it)."""
        config = declarations.stream_config(self.cluster, stream, self.settings.nats_replicas)
        allowed = self.settings.nats_declare if make is None else make
        await declarations.ensure_stream(self.jetstream, config, declare=allowed)

    async def ensure_bucket(self, bucket: str, *, make: bool | None = None) -> None:
        """Makes one bucket where it is missing (if `make`, by default the setting, allows it)."""
        allowed = self.settings.nats_declare if make is None else make
        name = bucket_name(self.cluster, bucket)
        await declarations.ensure_bucket(self.jetstream, name, self.settings.nats_replicas, declare=allowed)


def _found(answer: Msg) -> StoredMessage | None:
    """The answer to a direct get; None where there is no such message.

    Raises:
        Unavailable: any other answer than yes or no.
    """
    headers = answer.headers or {}
    status = headers.get("Status")
    if "Nats-Sequence" in headers:
        return directly_got(answer)
    if status == "404":
        return None
    raise Unavailable(f"direct get: {status} {headers.get('Description', '')}", reason="jetstream-unavailable")
