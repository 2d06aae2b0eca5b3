"""One HTTP exchange with one key server: bounded in time and size, its refusals turned into typed errors."""

import json
import uuid
from typing import Final

import aiohttp

from daas.common.errors import DaasError, InvalidInput
from daas.seal import wire
from daas.seal.client.settings import KeyServer
from daas.seal.errors import KeyServerRefused, KeyServerUnavailable, MalformedAnswer
from daas.seal.versions import KEY_SERVER_MIN, LIBRARY_VERSION, parse_version

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_OK: Final = 200
#: Characters of a server's own sentence that are repeated.
_MESSAGE_MAX: Final = 200
_CHUNK: Final = 16 * 1024


async def exchange(
    http: aiohttp.ClientSession,
    server: KeyServer,
    path: str,
    body: bytes | None,
    *,
    timeout_ms: int,
    sdk_type: str = "python",
    sdk_version: str = LIBRARY_VERSION,
) -> bytes:
    """POSTs a body (GETs without one) and returns the answer's body.

    Raises:
        KeyServerUnavailable: away, slow, overloaded, or its own state is behind: try again.
        KeyServerRefused: it said no.
        MalformedAnswer: too long, too old a version, or no answer of a key server.
    """
    headers = {
        wire.HEADER_SDK_TYPE: sdk_type,
        wire.HEADER_SDK_VERSION: sdk_version,
        wire.HEADER_REQUEST_ID: str(uuid.uuid4()),
    }
    if body is not None:
        headers["Content-Type"] = "application/json"
    if server.api_key_header:
        headers[server.api_key_header] = server.api_key
    try:
        async with http.request(
            "GET" if body is None else "POST",
            server.url.rstrip("/") + path,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
            allow_redirects=False,
        ) as answer:
            data = await _read(answer, server)
            if answer.status != _OK:
                raise _refusal(server, answer.status, data)
            _check_version(server, answer.headers.get(wire.HEADER_SERVER_VERSION))
            return data
    except TimeoutError:
        raise KeyServerUnavailable(f"key server {server.label} did not answer within {timeout_ms} ms",
                                   reason="key-server-timeout") from None  # fmt: skip
    except aiohttp.InvalidURL:
        raise InvalidInput(f"the address of key server {server.label} is no URL", reason="key-server-url") from None
    except (aiohttp.ClientError, OSError) as error:
        raise KeyServerUnavailable(f"key server {server.label} can't be reached: {type(error).__name__}",
                                   reason="key-server-away") from None  # fmt: skip


async def _read(answer: aiohttp.ClientResponse, server: KeyServer) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > wire.ANSWER_BYTES_MAX:
            raise MalformedAnswer(
                f"key server {server.label} answered with more than {wire.ANSWER_BYTES_MAX} bytes", reason="answer-size"
            )
    return bytes(data)


def _refusal(server: KeyServer, status: int, data: bytes) -> DaasError:
    try:
        answer = wire.decode_error(data)
        code, message = answer.error[:_MESSAGE_MAX], json.dumps(answer.message[:_MESSAGE_MAX])
    except MalformedAnswer:
        code, message = "", ""
    if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS or code == "Failure":
        return KeyServerUnavailable(f"key server {server.label} answered {status} {code} {message}".rstrip(),
                                    reason="key-server-busy")  # fmt: skip
    if not code.isidentifier() or not code.isascii():
        return MalformedAnswer(f"key server {server.label} answered {status} without a reason", reason="answer-json")
    return KeyServerRefused(f"key server {server.label} refused: {code}: {message}", code=code)


def _check_version(server: KeyServer, text: str | None) -> None:
    try:
        recent = text is not None and parse_version(text) >= KEY_SERVER_MIN
    except InvalidInput:
        recent = False
    if not recent:
        wanted = ".".join(map(str, KEY_SERVER_MIN))
        raise MalformedAnswer(f"key server {server.label} does not show a version of {wanted} or later",
                              reason="key-server-version")  # fmt: skip
