"""A key server refuses everything but a right request, says why in one form, and keeps its secrets."""

import asyncio
import base64
import copy
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from seal_world import World, serve

from daas.seal import MasterKey, SessionKey, build_ptb, format_address, verify_possession
from daas.seal.elgamal import DecryptionKey, Encryption
from daas.seal.ptb import ApproveCall
from daas.seal.server import KeyServerApp, KeyServerSettings, OpenKeys, Rate, make_metrics_app
from daas.seal.server.refusal import CODES
from daas.seal.session import system_clock_ms

pytestmark = pytest.mark.connected

HEADERS = {"Client-Sdk-Version": "1.4.12", "Client-Sdk-Type": "typescript", "Content-Type": "application/json"}
IDENTITY = base64.b64encode(b"\xc0" + bytes(47)).decode()


class Caller:
    """A client that can say anything to one key server."""

    def __init__(self, world: World, url: str, http: aiohttp.ClientSession) -> None:
        self.world, self.url, self.http = world, url, http
        self.key = DecryptionKey()
        self.inner = world.inner_id(b"name")

    async def body(self, session: SessionKey | None = None, ptb: bytes | None = None) -> dict[str, Any]:
        """A right request."""
        session = session or await self.world.session()
        ptb = ptb if ptb is not None else self.world.ledger.approve(self.world.access, self.inner)
        certificate = session.certificate
        signature = session.sign_request(ptb, self.key.public_key, self.key.verification_key)
        named = {"mvr_name": certificate.mvr_name} if certificate.mvr_name else {}
        return {
            "ptb": base64.b64encode(ptb).decode(),
            "enc_key": base64.b64encode(self.key.public_key).decode(),
            "enc_verification_key": base64.b64encode(self.key.verification_key).decode(),
            "request_signature": base64.b64encode(signature).decode(),
            "certificate": {
                "user": certificate.user,
                "session_vk": certificate.session_vk,
                "creation_time": certificate.creation_time,
                "ttl_min": certificate.ttl_min,
                "signature": certificate.signature,
                **named,
            },
        }

    async def post(self, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(
            self.url + "/v1/fetch_key", data=data, headers=HEADERS if headers is None else headers
        ) as answer:
            assert answer.headers["X-KeyServer-Version"]
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            return answer.status, await answer.json()

    async def code(self, body: Any, headers: dict[str, str] | None = None) -> str:
        """The code of a refusal; "OK" for an answer."""
        status, answer = await self.post(body, headers)
        if status == 200:
            assert set(answer) == {"decryption_keys"}
            return "OK"
        assert set(answer) == {"error", "message"}
        assert answer["error"] in CODES
        return str(answer["error"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "ledger")
    yield world
    await world.close()


@pytest.fixture
async def caller(world: World) -> AsyncIterator[Caller]:
    server = await world.add()
    async with aiohttp.ClientSession() as http:
        yield Caller(world, server.known.url, http)


async def test_a_right_request_gets_the_key_encrypted_to_the_session(world: World, caller: Caller) -> None:
    status, answer = await caller.post(await caller.body())
    assert status == 200
    (key,) = answer["decryption_keys"]
    identity = world.package + caller.inner
    assert bytes(key["id"]) == identity
    ephemeral, blinded = (base64.b64decode(part) for part in key["encrypted_key"])
    assert caller.key.decrypt(Encryption(ephemeral, blinded)) == world.servers[0].master_key.extract(identity)


async def test_each_command_gets_its_key_also_where_an_identity_comes_twice(world: World, caller: Caller) -> None:
    inners = [world.inner_id(b"a"), world.inner_id(b"b"), world.inner_id(b"a")] * 5
    _, answer = await caller.post(await caller.body(ptb=world.ledger.approve(world.access, *inners)))
    assert [bytes(key["id"]) for key in answer["decryption_keys"]] == [world.package + inner for inner in inners]


async def test_the_policy_s_reason_reaches_the_client(world: World, caller: Caller) -> None:
    status, answer = await caller.post(await caller.body(await world.session(world.stranger)))
    assert (status, answer["error"]) == (403, "NoAccess")
    assert "ENotMember" in answer["message"]


async def test_too_early_is_refused_until_the_ledger_s_clock_says_otherwise(world: World, caller: Caller) -> None:
    opens_ms = world.ledger.clock.now_ms() + 60_000
    access = world.ledger.create_access([world.member.address], not_before_ms=opens_ms)
    body = await caller.body(ptb=world.ledger.approve(access, world.inner_id(access=access)))
    _, answer = await caller.post(body)
    assert "ETooEarly" in answer["message"]
    world.ledger.clock.set(opens_ms, frozen=True)
    assert await caller.code(body) == "OK"


def changed(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy in which one field has another value; None removes it."""
    copied: dict[str, Any] = copy.deepcopy(body)
    target = copied
    *path, last = field.split(".")
    for name in path:
        target = target[name]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return copied


REFUSALS: list[tuple[str, Any, str]] = [
    ("ptb", None, "InvalidRequest"),
    ("ptb", 7, "InvalidRequest"),
    ("ptb", "!", "InvalidPTB"),
    ("ptb", "AAAA", "InvalidPTB"),
    ("enc_key", IDENTITY, "InvalidParameter"),
    ("enc_key", "AAAA", "InvalidParameter"),
    ("enc_key", base64.b64encode(os.urandom(48)).decode(), "InvalidParameter"),
    ("enc_key", base64.b64encode(DecryptionKey().public_key).decode(), "InvalidSessionSignature"),
    ("enc_verification_key", "AAAA", "InvalidParameter"),
    (
        "enc_verification_key",
        base64.b64encode(DecryptionKey().verification_key).decode(),
        "InvalidSessionSignature",
    ),
    ("request_signature", base64.b64encode(bytes(64)).decode(), "InvalidSessionSignature"),
    ("request_signature", "AAAA", "InvalidSessionSignature"),
    ("certificate", None, "InvalidRequest"),
    ("certificate.user", "0x" + "11" * 32, "InvalidSignature"),
    ("certificate.user", "somebody", "InvalidCertificate"),
    ("certificate.session_vk", base64.b64encode(os.urandom(32)).decode(), "InvalidSignature"),
    ("certificate.session_vk", "AAAA", "InvalidCertificate"),
    ("certificate.signature", "AAAA", "InvalidSignature"),
    ("certificate.signature", "", "InvalidSignature"),
    ("certificate.signature", base64.b64encode(b"\x05" + bytes(96)).decode(), "InvalidSignature"),
    ("certificate.ttl_min", 31, "InvalidCertificate"),
    ("certificate.ttl_min", 0, "InvalidCertificate"),
    ("certificate.ttl_min", -1, "InvalidCertificate"),
    ("certificate.ttl_min", 10**30, "InvalidCertificate"),
    ("certificate.ttl_min", 11, "InvalidSignature"),
    ("certificate.creation_time", 0, "InvalidCertificate"),
    ("certificate.creation_time", -(10**18), "InvalidCertificate"),
    ("certificate.creation_time", 10**18, "InvalidCertificate"),
    ("certificate.creation_time", system_clock_ms() + 86_400_000, "InvalidCertificate"),
    ("certificate.mvr_name", "@nobody/knows", "InvalidMVRName"),
    ("certificate.mvr_name", "@test/access", "InvalidSignature"),
    ("certificate.mvr_name", "x" * 1000, "InvalidMVRName"),
]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    REFUSALS,
    ids=[f"{n}-{field}-{code}" for n, (field, _, code) in enumerate(REFUSALS)],  # some values are random
)
async def test_a_request_with_one_wrong_field_is_refused(caller: Caller, field: str, value: Any, code: str) -> None:
    assert await caller.code(changed(await caller.body(), field, value)) == code
    assert not caller.world.view.evaluations


async def test_bodies_that_are_no_request_are_refused(caller: Caller) -> None:
    for body in (b"", b"{", b"[]", b"\xff\xfe", b"null", b"{}", b'{"ptb":' * 1000):
        assert await caller.code(body) == "InvalidRequest"
    status, answer = await caller.post(b" " * (180 * 1024 + 1))
    assert (status, answer["error"]) == (413, "RequestTooLarge")


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(caller: Caller) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 16_384

    async with caller.http.post(caller.url + "/v1/fetch_key", data=endless(), headers=HEADERS) as answer:
        assert (answer.status, (await answer.json())["error"]) == (413, "RequestTooLarge")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Client-Sdk-Version": None}, "MissingRequiredHeader"),
        ({"Client-Sdk-Version": "one"}, "InvalidSDKVersion"),
        ({"Client-Sdk-Version": "0.4.4"}, "DeprecatedSDKVersion"),
        ({"Client-Sdk-Version": "0.4.5"}, "OK"),
        ({"Client-Sdk-Version": "0.0.1", "Client-Sdk-Type": "python"}, "OK"),
        ({"Client-Sdk-Version": "0.6.1", "Client-Sdk-Type": "aggregator"}, "DeprecatedSDKVersion"),
        ({"Client-Sdk-Version": "0.0.1", "Client-Sdk-Type": "something-else"}, "OK"),
    ],
)
async def test_clients_are_held_to_the_oldest_version_of_their_type(
    caller: Caller, headers: dict[str, str | None], code: str
) -> None:
    merged = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    assert await caller.code(await caller.body(), merged) == code


async def test_transactions_that_the_ledger_does_not_know_are_refused(world: World, caller: Caller) -> None:
    clock = ApproveCall(module="access", function="seal_approve", inner_id=caller.inner)
    nowhere = ApproveCall(module="access", function="seal_approve_nothing", inner_id=caller.inner)
    missing = type(world.access)(os.urandom(32), 1)
    cases = [
        (build_ptb(os.urandom(32), [clock]), "InvalidPackage"),
        (build_ptb(world.package, [nowhere]), "InvalidPTB"),
        (build_ptb(world.package, [clock]), "InvalidPTB"),
        (world.ledger.approve(missing, caller.inner), "InvalidParameter"),
    ]
    for ptb, code in cases:
        # The session is for the package of the world: where the package itself is unknown, that is said first.
        assert await caller.code(await caller.body(ptb=ptb)) == code


async def test_users_for_whom_other_keys_may_sign_are_refused(world: World, caller: Caller) -> None:
    world.view.aliased.add(world.member.address)
    assert await caller.code(await caller.body()) == "InvalidSignature"


async def test_a_session_of_another_package_is_refused(world: World, caller: Caller) -> None:
    session = await SessionKey.create(world.member.signer, os.urandom(32))
    assert await caller.code(await caller.body(session)) == "InvalidSignature"


async def test_a_clock_that_is_some_seconds_ahead_is_forgiven_and_a_minute_is_not(caller: Caller) -> None:
    for skew_ms, code in ((-3_000, "OK"), (-60_000, "InvalidCertificate"), (660_000, "InvalidCertificate")):
        session = await caller.world.session(backdate_ms=skew_ms)
        assert await caller.code(await caller.body(session)) == code


async def test_a_ledger_that_is_away_or_behind_is_a_failure_to_be_tried_again(world: World, caller: Caller) -> None:
    world.view.behind_ms = 121_000
    status, answer = await caller.post(await caller.body())
    assert (status, answer["error"]) == (503, "Failure")
    world.view.behind_ms, world.view.away = 0, True
    assert await caller.code(await caller.body()) == "Failure"
    world.view.away = False
    assert await caller.code(await caller.body()) == "OK"


async def test_a_server_proves_that_it_has_its_key_and_no_other(world: World, caller: Caller) -> None:
    known = world.servers[0].known
    address = format_address(known.object_id)
    for _ in range(2):
        async with caller.http.get(caller.url + f"/v1/service?service_id={address}", headers=HEADERS) as answer:
            body = await answer.json()
    assert body["service_id"] == address
    verify_possession(base64.b64decode(body["pop"]), known.public_key, known.object_id)
    for query in ("", "?service_id=", "?service_id=0x", "?service_id=0x1", "?service_id=x"):
        async with caller.http.get(caller.url + "/v1/service" + query, headers=HEADERS) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, "InvalidServiceId")
    async with caller.http.get(caller.url + "/v1/debug/committee_partial_pk", headers=HEADERS) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "Unsupported")


async def test_other_paths_and_methods_are_refused_in_the_same_form(caller: Caller) -> None:
    async with caller.http.get(caller.url + "/else") as answer:
        assert (answer.status, (await answer.json())["error"]) == (404, "NotFound")
    async with caller.http.get(caller.url + "/v1/fetch_key") as answer:
        assert (answer.status, (await answer.json())["error"]) == (405, "MethodNotAllowed")
    async with caller.http.options(caller.url + "/v1/fetch_key") as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Headers"] == "*"


async def with_settings(world: World, settings: KeyServerSettings, work: Callable[[Caller], Any]) -> None:
    server = await world.add(settings=settings)
    async with aiohttp.ClientSession() as http:
        await work(Caller(world, server.known.url, http))


async def test_each_user_gets_as_many_keys_as_its_rate_allows(world: World) -> None:
    async def work(caller: Caller) -> None:
        other = await world.session(world.stranger)
        assert [await caller.code(await caller.body()) for _ in range(4)] == ["OK"] * 3 + ["TooManyRequests"]
        assert await caller.code(await caller.body(other)) == "NoAccess"

    rate = Rate(per_second=0.001, burst=3)
    await with_settings(world, KeyServerSettings(user_rate=rate), work)


async def test_nobody_uses_up_the_rate_of_another_user_without_its_signature(world: World) -> None:
    async def work(caller: Caller) -> None:
        body = await caller.body()
        forged = changed(body, "request_signature", base64.b64encode(bytes(64)).decode())
        assert {await caller.code(forged) for _ in range(5)} == {"InvalidSessionSignature"}
        assert await caller.code(body) == "OK"

    await with_settings(world, KeyServerSettings(user_rate=Rate(per_second=0.001, burst=1)), work)


async def test_each_network_address_is_limited_before_anything_is_computed(world: World) -> None:
    async def work(caller: Caller) -> None:
        assert [await caller.code(b"{}") for _ in range(3)] == ["InvalidRequest"] * 2 + ["TooManyRequests"]

    await with_settings(world, KeyServerSettings(network_rate=Rate(per_second=0.001, burst=2)), work)


async def test_more_requests_than_can_be_answered_at_a_time_are_turned_away(world: World) -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    class Slow(type(world.view)):  # type: ignore[misc]  # the class is a value here
        async def evaluate(self, request: Any) -> Any:
            entered.set()
            await released.wait()
            return await super().evaluate(request)

    key, object_id = MasterKey.generate(), os.urandom(32)
    settings = KeyServerSettings(in_flight_max=1)
    app = KeyServerApp(OpenKeys(object_id, key), Slow(world.ledger), settings=settings)
    async with serve(app.application()) as url, aiohttp.ClientSession() as http:
        caller = Caller(world, url, http)
        body = await caller.body()
        first = asyncio.create_task(caller.code(body))
        await asyncio.wait_for(entered.wait(), 100)
        assert await caller.code(body) == "Failure"
        released.set()
        assert await first == "OK"


async def test_a_bug_is_counted_and_not_shown(world: World) -> None:
    class Broken(type(world.view)):  # type: ignore[misc]  # the class is a value here
        async def evaluate(self, request: Any) -> Any:
            raise RuntimeError("a secret detail")

    app = KeyServerApp(OpenKeys(os.urandom(32), MasterKey.generate()), Broken(world.ledger))
    async with serve(app.application()) as url, aiohttp.ClientSession() as http:
        caller = Caller(world, url, http)
        status, answer = await caller.post(await caller.body())
        assert (status, answer["error"]) == (503, "Failure")
        assert "detail" not in answer["message"]
    assert app.metrics.registry.get_sample_value("seal_key_server_unexpected_errors_total") == 1


async def test_metrics_count_outcomes_on_a_port_of_their_own(world: World, caller: Caller) -> None:
    await caller.code(await caller.body())
    await caller.code(await caller.body(await world.session(world.stranger)))
    await caller.code(await caller.body(), {**HEADERS, "Client-Sdk-Type": "made-up-7"})
    app = world.servers[0].app
    async with serve(make_metrics_app(app.metrics)) as url, caller.http.get(url + "/metrics") as answer:
        text = await answer.text()
    for line in (
        'seal_key_server_requests_total{endpoint="/v1/fetch_key",outcome="OK"} 2.0',
        'seal_key_server_requests_total{endpoint="/v1/fetch_key",outcome="NoAccess"} 1.0',
        'seal_key_server_clients_total{sdk_type="other"} 1.0',
        "seal_key_server_keys_issued_total 2.0",
        "seal_key_server_in_flight 0.0",
    ):
        assert line in text
    assert "made-up" not in text


async def test_logs_hold_no_key_and_no_identity(world: World, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        session = await world.session()
        body = await caller.body(session)
        await caller.code(body)
        await caller.code(changed(body, "request_signature", "AAAA"))
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "/v1/fetch_key" in logged
    server = world.servers[0]
    identity = world.package + caller.inner
    secrets = [
        server.master_key.extract(identity),
        server.master_key._scalar.to_bytes(32, "big"),
        session.export_secret(),
        caller.inner,
        base64.b64decode(body["enc_key"]),
        base64.b64decode(body["request_signature"]),
        base64.b64decode(body["certificate"]["signature"]),
    ]
    for secret in secrets:
        assert secret.hex() not in logged
        assert base64.b64encode(secret).decode() not in logged
        assert repr(secret) not in logged


async def test_a_request_that_is_aborted_leaves_the_server_well(world: World, caller: Caller) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(caller.url.rsplit(":", 1)[1]))
    writer.write(
        b"POST /v1/fetch_key HTTP/1.1\r\nHost: x\r\nClient-Sdk-Version: 1.4.12\r\nContent-Length: 100\r\n\r\n{"
    )
    await writer.drain()
    writer.transport.abort()
    assert await caller.code(await caller.body()) == "OK"
    assert reader is not None
    errors = world.servers[0].app.metrics.registry.get_sample_value("seal_key_server_unexpected_errors_total")
    assert errors == 0
