"""Questions and answers over core NATS: bounded in size and time, refusals with their kind, reason and field.

Nothing is kept: a question that nobody answers in time is `Unavailable`, and whoever asked decides what that means. The
asker's patience travels with the question, so that nobody works on an answer that is not waited for any more.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from daas.common import envelope
from daas.common.bus.failures import translated
from daas.common.bus.message import StoredMessage, event
from daas.common.errors import Conflict, DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import Message, decode, encode
from daas.common.subjects import MAX_MESSAGE_BYTES, Kind, Subject

if TYPE_CHECKING:
    from daas.common.bus.connection import Bus
    from daas.common.bus.message import Event

#: Longest that anybody waits for an answer; NATS lets an answer through for no longer (`allow_responses`).
MAX_TIMEOUT_S: Final = 120.0
#: Milliseconds that the asker waits; its presence marks a question of ours.
TIMEOUT_HEADER: Final = "daas-timeout-ms"
#: `ok`, or the class of the refusal.
STATUS_HEADER: Final = "daas-status"
_OK: Final = "ok"
_KINDS: Final[dict[str, type[DaasError]]] = {
    kind.__name__: kind for kind in (InvalidInput, Refused, Conflict, NotFound, Unavailable)
}

A = TypeVar("A", bound=Message)
Answerer = Callable[["Event[Any]"], Awaitable[Message]]

log = get_logger("requests")


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal as it crosses the bus; see `daas.common.errors.Problem`."""

    reason: str
    message: str
    field: str | None = None


def _kind_of(error: DaasError) -> str:
    """The name of the class of our tree that an error belongs to; libraries subclass these."""
    return next((name for name, kind in _KINDS.items() if isinstance(error, kind)), Unavailable.__name__)


async def ask(bus: "Bus", subject: Subject, body: Message, answer: type[A], timeout_s: float) -> A:
    """The answer to a question; see `Bus.request`."""
    if bus.service not in subject.publishers:
        raise Refused(f"{bus.service.value} may not ask {subject.name}", reason="not-a-publisher")
    if subject.kind is not Kind.REQUEST:
        raise InvalidInput(f"{subject.name} is no request", reason="not-a-request")
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput(f"a time-out is 0..{MAX_TIMEOUT_S} s, not {timeout_s}", reason="timeout")
    data = encode(body)
    if len(data) > MAX_MESSAGE_BYTES:
        raise InvalidInput(f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are allowed", reason="oversize")
    headers = envelope.seal(bus.service, subject.event_type, bus.unique())
    del headers[envelope.MESSAGE_ID]
    headers[TIMEOUT_HEADER] = str(round(timeout_s * 1000))
    started = time.monotonic()
    await bus.wait_connected(timeout_s)
    full = subject.full(bus.cluster)
    try:
        left_s = max(0.01, timeout_s - (time.monotonic() - started))
        reply = await bus.client.request(full, data, timeout=left_s, headers=headers)
    except nats.errors.NoRespondersError:
        raise Unavailable(f"nobody answers {subject.name}", reason="no-responders") from None
    except TimeoutError:
        if full.lower() in bus.denied:
            raise Refused(f"NATS refused: {bus.denied[full.lower()]}", reason="nats-permissions") from None
        raise Unavailable(f"{subject.name}: no answer within {timeout_s} s", reason="request-timeout") from None
    except (nats.errors.Error, OSError) as error:
        raise Unavailable(f"{subject.name}: {error}", reason="nats-unavailable") from None
    return _answer_of(subject, reply, answer)


def _answer_of(subject: Subject, reply: Msg, answer: type[A]) -> A:
    status = (reply.headers or {}).get(STATUS_HEADER, "")
    if status == _OK:
        return decode(reply.data, answer)
    kind = _KINDS.get(status)
    try:
        refusal = msgspec.json.decode(reply.data, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = None
    if kind is None:
        raise Unavailable(f"{subject.name}: what came is no answer", reason="malformed-answer")
    raise kind(refusal.message, reason=refusal.reason, field=refusal.field)


class Answering:
    """Answers one subject for a service; several instances of it share the questions.

    Args:
        bus: the connection.
        subject: of kind request; the service must be among its consumers.
        body: what to decode a question to.
        handler: makes the answer; a DaasError becomes a refusal of its kind.
        in_flight: questions in work at once; more are refused (`busy`) rather than kept waiting.
    """

    def __init__(self, bus: "Bus", subject: Subject, body: type[Message], handler: Answerer, in_flight: int) -> None:
        self._bus = bus
        self._subject = subject
        self._body = body
        self._handler = handler
        self._in_flight = in_flight
        self._running: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self.label = subject.name

    @property
    def running(self) -> bool:
        """Whether it has been started."""
        return self._subscription is not None

    async def start(self) -> None:
        """Subscribes; the client subscribes again by itself after a reconnection."""
        with translated(f"subscribe {self.label}"):
            self._subscription = await self._bus.client.subscribe(
                self._subject.full(self._bus.cluster), queue=self._bus.service.value, cb=self._take
            )

    async def stop(self) -> None:
        """Takes no more questions and finishes those in work, for at most the time that a stop may take."""
        if self._subscription is not None and self._bus.client.is_connected:
            with translated(f"unsubscribe {self.label}"):
                await self._subscription.unsubscribe()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._bus.stop_timeout_s)
            for task in late:
                task.cancel()

    async def _take(self, message: Msg) -> None:
        if len(self._running) >= self._in_flight:
            busy = Unavailable(f"{self._in_flight} questions are in work already", reason="busy")
            self._bus.metrics.failed.labels(self.label, busy.reason).inc()
            await self._refuse(message, busy)
            return
        task = asyncio.create_task(self._answer(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, message: Msg) -> None:
        metrics, started = self._bus.metrics, time.monotonic()
        metrics.in_flight.labels(self.label).inc()
        try:
            headers = message.headers or {}
            envelope.check(self._subject, headers, len(message.data))
            async with asyncio.timeout(_patience_s(headers)):
                question = event(
                    StoredMessage(message.subject, 0, message.data, headers, envelope.now_ms()),
                    decode(message.data, self._body),
                    1,
                )
                answer = _bounded(encode(await self._handler(question)))
            await self._reply(message, answer, _OK)
            metrics.handled.labels(self.label).inc()
        except DaasError as error:
            metrics.failed.labels(self.label, error.reason).inc()
            await self._refuse(message, error)
        except TimeoutError:
            metrics.failed.labels(self.label, "request-timeout").inc()
        except Exception:
            metrics.unexpected.labels(self.label).inc()
            log.exception("a question could not be answered", subject=self.label)
            await self._refuse(message, Unavailable("the service failed; its log says why", reason="unexpected-error"))
        finally:
            metrics.in_flight.labels(self.label).dec()
            metrics.handle_seconds.labels(self.label).observe(time.monotonic() - started)

    async def _refuse(self, message: Msg, error: DaasError) -> None:
        refusal = Refusal(reason=error.reason, message=error.message[:4096], field=error.field)
        await self._reply(message, msgspec.json.encode(refusal), _kind_of(error))

    async def _reply(self, message: Msg, data: bytes, status: str) -> None:
        if not message.reply:
            return
        try:
            await self._bus.client.publish(message.reply, data, headers={STATUS_HEADER: status})
        except (nats.errors.Error, OSError) as error:
            log.warning("an answer could not be sent", subject=self.label, error=error)


def _bounded(answer: bytes) -> bytes:
    if len(answer) > MAX_MESSAGE_BYTES:
        raise Unavailable(f"an answer of {len(answer)} bytes is too long to send", reason="oversize-answer")
    return answer


def _patience_s(headers: Any) -> float:
    text = headers.get(TIMEOUT_HEADER, "")
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:9]) <= MAX_TIMEOUT_S * 1000:
        raise InvalidInput(
            f"the header {TIMEOUT_HEADER} says how long is waited, in milliseconds",
            reason="malformed-envelope",
            field=TIMEOUT_HEADER,
        )
    return int(text[:9]) / 1000
