"""Keys from several key servers at once: enough of them, verified, in spite of slow, failing and lying ones."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from daas.common.errors import DaasError, Unavailable
from daas.seal import ibe, wire
from daas.seal.client.settings import ClientSettings, KeyServer
from daas.seal.client.transport import exchange
from daas.seal.elgamal import DecryptionKey
from daas.seal.errors import KeyServerRefused, MalformedAnswer, MalformedPoint, NotEnoughKeys, ThresholdUnreachable
from daas.seal.session import SessionKey

#: A server may say this of an object that its full node has not seen yet.
_FRESH_OBJECT: Final = "InvalidParameter"

UserSecretKeys = dict[bytes, bytes]
FaultHandler = Callable[[KeyServer, DaasError], None]


class Wanted(msgspec.Struct, frozen=True):
    """One fetch: the transaction, the full ids it asks for, and what each server's keys are worth."""

    ptb: bytes
    identities: frozenset[bytes]
    weights: Mapping[bytes, int]
    threshold: int


async def fetch(
    http: aiohttp.ClientSession,
    servers: Sequence[KeyServer],
    session: SessionKey,
    wanted: Wanted,
    *,
    settings: ClientSettings,
    on_keys: Callable[[KeyServer, UserSecretKeys], None],
    on_fault: FaultHandler,
) -> None:
    """Asks all servers at once and returns when verified keys worth the threshold have come in.

    Args:
        http: connections.
        servers: whom to ask.
        session: who asks.
        wanted: what for; `threshold` is what is still missing.
        settings: limits.
        on_keys: is given each server's verified keys by full id, as they come.
        on_fault: is told of each server that did not give keys, and why.

    Raises:
        NotEnoughKeys: so many servers refused for good that the threshold is out of reach.
        ThresholdUnreachable: out of reach within the deadline, for reasons that pass.
        SessionExpired: before anything is sent.
    """
    session.check()
    decryption_key = DecryptionKey()
    signature = session.sign_request(wanted.ptb, decryption_key.public_key, decryption_key.verification_key)
    body = msgspec.json.encode(
        wire.FetchKeyRequest(
            ptb=wire.to_base64(wanted.ptb),
            enc_key=wire.to_base64(decryption_key.public_key),
            enc_verification_key=wire.to_base64(decryption_key.verification_key),
            request_signature=wire.to_base64(signature),
            certificate=session.certificate,
        )
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.deadline_ms / 1000
    tasks = {
        asyncio.create_task(
            _ask(http, server, body, decryption_key=decryption_key, wanted=wanted, settings=settings, deadline=deadline)
        ): server
        for server in servers
    }
    missing = wanted.threshold
    possible = sum(wanted.weights[server.object_id] for server in servers)
    failures: dict[KeyServer, DaasError] = {}
    pending = set(tasks)
    try:
        while pending and 0 < missing <= possible:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                server = tasks[task]
                weight = wanted.weights[server.object_id]
                possible -= weight
                try:
                    keys = task.result()
                except DaasError as error:
                    failures[server] = error
                    on_fault(server, error)
                else:
                    missing -= weight
                    on_keys(server, keys)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if missing > 0:
        raise _shortage(servers, wanted, failures)


async def _ask(
    http: aiohttp.ClientSession,
    server: KeyServer,
    body: bytes,
    *,
    decryption_key: DecryptionKey,
    wanted: Wanted,
    settings: ClientSettings,
    deadline: float,
) -> UserSecretKeys:
    """One server's keys, asked for again where that may help."""
    loop = asyncio.get_running_loop()
    delay_ms = settings.retry_delay_ms
    for attempt in range(1, settings.attempts_max + 1):
        timeout_ms = max(1, min(settings.timeout_ms, round((deadline - loop.time()) * 1000)))
        try:
            answer = await exchange(http, server, wire.FETCH_KEY, body, timeout_ms=timeout_ms)
            return _open(server, answer, decryption_key, wanted)
        except DaasError as error:
            passing = isinstance(error, Unavailable) or getattr(error, "code", "") == _FRESH_OBJECT
            # Spread by half, so that clients that failed together do not return together.
            pause_ms = delay_ms * (1 + random.random() / 2)  # noqa: S311 - no secret depends on it
            if not passing or attempt == settings.attempts_max or loop.time() + pause_ms / 1000 >= deadline:
                raise
            await asyncio.sleep(pause_ms / 1000)
            delay_ms = min(2 * delay_ms, settings.retry_delay_max_ms)
    raise AssertionError("attempts_max is at least 1")


def _open(server: KeyServer, answer: bytes, decryption_key: DecryptionKey, wanted: Wanted) -> UserSecretKeys:
    """Decrypts and verifies an answer: exactly the keys that were asked for, and right ones."""
    encrypted = dict(wire.decode_answer(answer))
    if set(encrypted) != wanted.identities:
        raise MalformedAnswer(f"key server {server.label} answered for other identities than it was asked for",
                              reason="wrong-identities")  # fmt: skip
    try:
        keys = {identity: decryption_key.decrypt(encryption) for identity, encryption in encrypted.items()}
    except MalformedPoint:
        raise MalformedAnswer(f"key server {server.label} answered with bytes that are no key",
                              reason="wrong-key") from None  # fmt: skip
    if not all(ibe.verify_user_secret_keys(list(keys.items()), server.public_key)):
        raise MalformedAnswer(f"key server {server.label} answered with a key that does not fit its public key",
                              reason="wrong-key")  # fmt: skip
    return keys


def _shortage(
    servers: Sequence[KeyServer], wanted: Wanted, failures: Mapping[KeyServer, DaasError]
) -> NotEnoughKeys | ThresholdUnreachable:
    final = {server: error for server, error in failures.items() if not isinstance(error, Unavailable)}
    open_weight = sum(wanted.weights[server.object_id] for server in servers if server not in final)
    text = "; ".join(error.message for error in failures.values()) or "none was asked"
    if open_weight < wanted.threshold and final:
        # What most of those that said no say: usually NoAccess.
        codes = Counter(error.code if isinstance(error, KeyServerRefused) else "" for error in final.values())
        majority = codes.most_common(1)[0][0]
        reason = next(error.reason for error in final.values() if getattr(error, "code", "") == majority)
        return NotEnoughKeys(f"too few key servers gave keys: {text}", reason=reason, failures=tuple(failures.values()))
    return ThresholdUnreachable(f"too few key servers gave keys in time: {text}", reason="key-servers-unavailable",
                                failures=tuple(failures.values()))  # fmt: skip
