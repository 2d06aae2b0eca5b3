"""A committee's aggregator: one server to clients, made of the answers of enough members.

It forwards a request as it is, verifies each member's encrypted keys under its partial public key without being able to
read them, and interpolates exactly the threshold of them. It holds no secret.
"""

import asyncio
from collections import Counter
from typing import Final

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from daas.common.errors import ConfigurationError, DaasError
from daas.seal import committee, elgamal, ibe, wire
from daas.seal.backend import BACKEND
from daas.seal.client.settings import KeyServer
from daas.seal.client.transport import exchange
from daas.seal.elgamal import Encryption
from daas.seal.errors import KeyServerRefused, MalformedAnswer, MalformedPoint
from daas.seal.server import checks
from daas.seal.server.http import check_client, json_response, make_middleware, read_body
from daas.seal.server.limits import Rate, RateLimiter
from daas.seal.server.metrics import Metrics
from daas.seal.server.policy import Policies, PolicyEvaluator
from daas.seal.server.refusal import CODES, Refusal
from daas.seal.session import Clock, system_clock_ms
from daas.seal.versions import AGGREGATOR_CLIENT_MIN, PROTOCOL_VERSION

_MEMBER_TIMEOUT_MS: Final = 8_000

Answers = dict[bytes, Encryption]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member as the ledger names it; its number, and how to reach it (`server.public_key` is its partial key)."""

    party_id: int
    server: KeyServer


class AggregatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits; times in ms."""

    member_timeout_ms: int = _MEMBER_TIMEOUT_MS
    in_flight_max: int = 256
    network_rate: Rate = Rate(per_second=100.0, burst=400)


class Aggregator:
    """The aggregator of one committee.

    Args:
        members: all of them.
        threshold: how many must answer.
        public_key: the committee's, 96 bytes; held to the members' partial keys.
        evaluator: tells the first version of a package.
        settings: limits.
        clock: ms since the epoch.
        registry: where its metrics go.

    Raises:
        ConfigurationError: `seal-committee`: the members' keys do not make the committee's.
    """

    def __init__(
        self,
        members: tuple[Member, ...],
        threshold: int,
        public_key: bytes,
        evaluator: PolicyEvaluator,
        *,
        settings: AggregatorSettings | None = None,
        clock: Clock = system_clock_ms,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._settings = settings or AggregatorSettings()
        self._policies = Policies(evaluator, clock, timeout_ms=self._settings.member_timeout_ms, allowed_staleness_ms=0)
        self._network = RateLimiter(self._settings.network_rate, clock)
        self.metrics = Metrics(registry)
        self._http: aiohttp.ClientSession | None = None
        self.update(members, threshold, public_key)

    def update(self, members: tuple[Member, ...], threshold: int, public_key: bytes) -> None:
        """Takes over a committee as the ledger shows it now (after a rotation).

        Raises:
            ConfigurationError: `seal-committee`.
        """
        parties = {member.party_id: member.server.public_key for member in members}
        if not 1 < threshold <= len(parties) or len(parties) != len(members):
            raise ConfigurationError("a committee has a threshold above 1 and members with different numbers",
                                     reason="seal-committee")  # fmt: skip
        ordered = sorted(parties)
        # Any window of `threshold` members must give the same key: then all lie on one polynomial.
        for start in range(len(ordered) - threshold + 1):
            window = {party: parties[party] for party in ordered[start : start + threshold]}
            if committee.public_key(window, threshold) != public_key:
                raise ConfigurationError("the members' partial keys do not make the committee's key",
                                         reason="seal-committee")  # fmt: skip
        self._members, self._threshold = members, threshold

    def application(self) -> web.Application:
        """The application to run with `aiohttp.web.AppRunner`."""
        app = web.Application(
            client_max_size=wire.REQUEST_BYTES_MAX,
            middlewares=[make_middleware(self.metrics, self._settings.in_flight_max)],
        )
        app.router.add_post(wire.FETCH_KEY, self._fetch_key)
        app.router.add_get(wire.SERVICE, self._service)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _app: web.Application) -> None:
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    async def _close(self, _app: web.Application) -> None:
        if self._http is not None:
            await self._http.close()

    async def _service(self, _http: web.Request) -> web.Response:
        raise Refusal("InvalidServiceId")

    async def _fetch_key(self, http: web.Request) -> web.Response:
        if not self._network.allow(http.remote):
            raise Refusal("TooManyRequests")
        check_client(http, AGGREGATOR_CLIENT_MIN, self.metrics, closed=True)
        body = await read_body(http)
        request = checks.decode_fetch_request(body)
        if len(set(request.parsed.inner_ids)) != len(request.parsed.inner_ids):
            raise Refusal("InvalidPTB", "an identity is asked for twice")
        try:
            BACKEND.g2_decode(request.verification_key)
        except MalformedPoint:
            raise Refusal("InvalidParameter") from None
        first_id = await self._policies.first_package_id(request.parsed.package_id)
        identities = [ibe.full_id(first_id, inner_id) for inner_id in request.parsed.inner_ids]
        answers = await self._ask_members(body, identities, request.verification_key)
        keys = [
            (identity, committee.aggregate({party: each[identity] for party, each in answers.items()}, self._threshold))
            for identity in identities
        ]
        self.metrics.keys.inc(len(keys))
        return json_response(wire.encode_answer(keys))

    async def _ask_members(self, body: bytes, identities: list[bytes], verification_key: bytes) -> dict[int, Answers]:
        """Verified answers of exactly `threshold` members, by party id."""
        members, threshold = self._members, self._threshold
        tasks = {
            asyncio.create_task(self._ask(member, body, identities, verification_key)): member for member in members
        }
        pending, answers, errors = set(tasks), dict[int, Answers](), list[DaasError]()
        try:
            while pending and len(answers) < threshold <= len(answers) + len(pending):
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        answer = task.result()
                    except DaasError as error:
                        errors.append(error)
                    else:
                        if len(answers) < threshold:
                            answers[tasks[task].party_id] = answer
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        if len(answers) < threshold:
            raise _majority(errors)
        return answers

    async def _ask(self, member: Member, body: bytes, identities: list[bytes], verification_key: bytes) -> Answers:
        assert self._http is not None
        data = await exchange(
            self._http,
            member.server,
            wire.FETCH_KEY,
            body,
            timeout_ms=self._settings.member_timeout_ms,
            sdk_type="aggregator",
            sdk_version=PROTOCOL_VERSION,
        )
        answer = dict(wire.decode_answer(data))
        if set(answer) != set(identities):
            raise MalformedAnswer(
                f"member {member.server.label} answered for other identities", reason="wrong-identities"
            )
        for identity, encryption in answer.items():
            if not elgamal.verify_encryption(encryption, identity, verification_key, member.server.public_key):
                raise MalformedAnswer(f"member {member.server.label} answered with a wrong key", reason="wrong-key")
        return answer


def _majority(errors: list[DaasError]) -> Refusal:
    """What most members said, where they said a code of the protocol; otherwise that it may be tried again."""
    codes = Counter(
        error.code if isinstance(error, KeyServerRefused) and error.code in CODES else "Failure" for error in errors
    )
    code = codes.most_common(1)[0][0] if codes else "Failure"
    return Refusal(code)
