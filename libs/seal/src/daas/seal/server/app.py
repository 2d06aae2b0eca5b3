"""The key server as an aiohttp application: `/v1/fetch_key`, `/v1/service` and a committee member's partial key.

It speaks to the unchanged official clients. A key leaves it only encrypted to the session that asked, after every check
in the official order: form of the transaction, first version of the package, package served, name, certificate's time,
aliases, user's signature, session's signature, policy. It logs outcomes and digests of identities, never keys.
"""

import asyncio
import time
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from daas.common.errors import InvalidInput
from daas.seal import elgamal, ibe, wire
from daas.seal.address import format_address, parse_address
from daas.seal.server import checks
from daas.seal.server.http import LOGGED, check_client, json_response, make_middleware, read_body
from daas.seal.server.keys import KeyRing
from daas.seal.server.limits import Rate, RateLimiter
from daas.seal.server.metrics import Metrics
from daas.seal.server.policy import Policies, PolicyEvaluator, PolicyRequest
from daas.seal.server.refusal import Refusal
from daas.seal.session import TTL_MIN_MAX, Clock, system_clock_ms
from daas.seal.versions import CLIENT_MIN

#: Keys made in a row before other requests get a turn: about 3 ms.
_KEYS_PER_TURN: Final = 8
#: Identities whose digests are logged of one request.
_LOGGED_IDENTITIES: Final = 8


class KeyServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a key server; times in ms.

    Attributes:
        session_ttl_min_max: longest session, minutes.
        future_skew_ms: how far a session's start may lie ahead of this clock: official clients do not set it back.
        allowed_staleness_ms: how old the ledger's state may be that decides.
        policy_timeout_ms: for each question to the ledger.
        in_flight_max: requests answered at a time.
        session_bound: functions, as `module::function`, whose second argument is the public key of the session that
            may have the key (a vector of 32 bytes): it must be the requester's. The ledger can't see who asks.
        network_rate: requests of one network address, before anything is computed for it.
        user_rate: keys of one ledger address, after its signature has been verified.
    """

    session_ttl_min_max: int = TTL_MIN_MAX
    future_skew_ms: int = 5_000
    allowed_staleness_ms: int = 120_000
    policy_timeout_ms: int = 8_000
    in_flight_max: int = 256
    session_bound: frozenset[str] = frozenset()
    network_rate: Rate = Rate(per_second=100.0, burst=400)
    user_rate: Rate = Rate(per_second=50.0, burst=400)


class KeyServerApp:
    """One key server.

    Args:
        keys: its master keys.
        evaluator: the ledger.
        settings: limits.
        clock: ms since the epoch.
        registry: where its metrics go; one of its own by default, as `metrics.registry`.
    """

    def __init__(
        self,
        keys: KeyRing,
        evaluator: PolicyEvaluator,
        *,
        settings: KeyServerSettings | None = None,
        clock: Clock = system_clock_ms,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._keys = keys
        self._settings = settings or KeyServerSettings()
        self._clock = clock
        self._policies = Policies(
            evaluator,
            clock,
            timeout_ms=self._settings.policy_timeout_ms,
            allowed_staleness_ms=self._settings.allowed_staleness_ms,
        )
        self._network = RateLimiter(self._settings.network_rate, clock)
        self._users = RateLimiter(self._settings.user_rate, clock)
        self._proofs: dict[bytes, bytes] = {}
        self.metrics = Metrics(registry)

    def application(self) -> web.Application:
        """The application for `aiohttp.web.AppRunner`; metrics have a port of their own, see `make_metrics_app`."""
        app = web.Application(
            client_max_size=wire.REQUEST_BYTES_MAX,
            middlewares=[make_middleware(self.metrics, self._settings.in_flight_max)],
        )
        app.router.add_post(wire.FETCH_KEY, self._fetch_key)
        app.router.add_get(wire.SERVICE, self._service)
        app.router.add_get(wire.PARTIAL_PUBLIC_KEY, self._partial_public_key)
        return app

    async def _fetch_key(self, http: web.Request) -> web.Response:
        self._check_network(http)
        check_client(http, CLIENT_MIN, self.metrics, closed=False)
        request = checks.decode_fetch_request(await read_body(http))
        first_id = await self._policies.first_package_id(request.parsed.package_id)
        key = self._keys.key_of_package(first_id)
        certificate = request.certificate
        if certificate.mvr_name:
            await self._policies.check_name(certificate.mvr_name, first_id)
        checks.check_certificate_time(
            certificate,
            self._clock(),
            ttl_min_max=self._settings.session_ttl_min_max,
            future_skew_ms=self._settings.future_skew_ms,
        )
        await self._policies.check_aliases(request.user)
        checks.check_user_signature(request, certificate.mvr_name or format_address(first_id))
        checks.check_session_signature(request)
        checks.check_session_arguments(request, self._settings.session_bound)
        if not self._users.allow(request.user, len(request.parsed.inner_ids)):
            raise Refusal("TooManyRequests")
        identities = [ibe.full_id(first_id, inner_id) for inner_id in request.parsed.inner_ids]
        logged: dict[str, object] = {
            "user": certificate.user,
            "package": format_address(first_id),
            "identities": [checks.digest_of(identity) for identity in identities[:_LOGGED_IDENTITIES]],
        }
        http[LOGGED] = logged
        started = time.perf_counter()
        try:
            await self._policies.check_access(
                PolicyRequest(
                    ptb=request.ptb,
                    transaction=request.parsed,
                    sender=request.user,
                    session_key=request.session_key,
                    allowed_staleness_ms=self._settings.allowed_staleness_ms,
                )
            )
        finally:
            self.metrics.policy_seconds.observe(time.perf_counter() - started)
        encrypted = []
        for number, identity in enumerate(identities, 1):
            encrypted.append((identity, elgamal.encrypt(key.extract_point(identity), request.encryption_point)))
            if not number % _KEYS_PER_TURN:
                await asyncio.sleep(0)
        self.metrics.keys.inc(len(encrypted))
        return json_response(wire.encode_answer(encrypted))

    async def _service(self, http: web.Request) -> web.Response:
        self._check_network(http)
        check_client(http, CLIENT_MIN, self.metrics, closed=False)
        try:
            service_id = parse_address(http.query.get("service_id", ""), "service_id")
        except InvalidInput:
            raise Refusal("InvalidServiceId") from None
        key = self._keys.key_of_service(service_id)
        if service_id not in self._proofs:
            self._proofs[service_id] = key.prove_possession(service_id)
        proof = wire.to_base64(self._proofs[service_id])
        return json_response(msgspec.json.encode(wire.ServiceAnswer(format_address(service_id), proof)))

    async def _partial_public_key(self, http: web.Request) -> web.Response:
        self._check_network(http)
        key = wire.to_base64(self._keys.partial_public_key())
        return json_response(msgspec.json.encode({"partial_pk": key}))

    def _check_network(self, http: web.Request) -> None:
        if not self._network.allow(http.remote):
            raise Refusal("TooManyRequests")
