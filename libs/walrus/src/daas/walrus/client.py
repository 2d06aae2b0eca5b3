"""The client: uploads through the first publisher that works, reads through any aggregator, bytes held to a digest.

Repeating an upload is safe and mostly free: the bytes decide the id, and a blob that is certified for long enough is
reported as such, by every publisher. So whatever may have been carried out is sent again, with a token of its own, and
`force`, which would buy it twice, is never asked for.
"""

import asyncio
import io
import random
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from daas.common.errors import ConfigurationError, DaasError, DecodeError, NotFound, Unavailable
from daas.walrus.errors import from_answer
from daas.walrus.limits import Limits, check_epochs, check_identifiers
from daas.walrus.model import (
    Content,
    QuiltPatch,
    StoredBlob,
    StoredQuilt,
    decode_id,
    digest_of,
    read_blob_result,
    read_patch_list,
    read_quilt_result,
)
from daas.walrus.tokens import PublisherKey

T = TypeVar("T")

#: The header by which the development stand-in says what it is.
SIMULATED_HEADER: Final = "X-Daas-Simulated"
#: An aggregator behind a CDN may answer 404 for seconds after a blob was certified.
_FIRST_WAIT_S: Final = 0.25
_LAST_WAIT_S: Final = 8.0
_CHUNK_BYTES: Final = 64 * 1024


def _base(url: str, field: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r} is no http:// or https:// URL", reason="walrus-url", field=field)
    return url.rstrip("/")


class WalrusClient:
    """One client for publishers and aggregators, safe to share by the tasks of one loop.

    Args:
        publishers: base URLs; the first is used until it fails, then the next.
        aggregators: base URLs, likewise.
        key: signs a token for each upload, for publishers that ask for one.
        limits: sizes, times and attempts.
        first_wait_s: pause after the first failed attempt; doubles up to 8 s.
    """

    def __init__(
        self,
        publishers: Sequence[str],
        aggregators: Sequence[str],
        *,
        key: PublisherKey | None = None,
        limits: Limits | None = None,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        if not aggregators:
            raise ConfigurationError("no aggregator is given", reason="walrus-url", field="aggregators")
        self.limits = limits or Limits()
        self._publishers = [_base(url, "publishers") for url in publishers]
        self._aggregators = [_base(url, "aggregators") for url in aggregators]
        self._key = key
        self._first_wait_s = first_wait_s
        self._session: aiohttp.ClientSession | None = None
        #: Attempts that failed, for whoever shows them.
        self.retries = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def store_blob(self, data: bytes, *, epochs: int) -> StoredBlob:
        """Stores bytes as a permanent blob, or finds them stored.

        Args:
            data: at least one byte, at most `limits.upload_bytes`.
            epochs: for how many epochs ahead of the current one, 1 to 53.

        Raises:
            InvalidInput: `walrus-size`, `walrus-epochs`, `walrus-request`.
            Refused: `walrus-not-allowed`, `walrus-blocked`, `walrus-deletable`, `walrus-invalid-blob`.
            Unavailable: no publisher stored it in all attempts; the same call may succeed later.
        """
        self.limits.check_upload(len(data))
        check_epochs(epochs)

        async def attempt(base: str) -> StoredBlob:
            body, simulated = await self._put(
                f"{base}/v1/blobs", lambda: io.BytesIO(data), epochs=epochs, size=len(data)
            )
            return read_blob_result(body, data, simulated=simulated, what=f"PUT {base}/v1/blobs")

        return await self._through(self._publishers, attempt, "publisher")

    async def store_quilt(self, contents: Sequence[Content], *, epochs: int) -> StoredQuilt:
        """Stores up to 666 files as one permanent quilt. Equal contents give equal ids.

        Raises:
            InvalidInput: `walrus-quilt`, `walrus-identifier`, and as `store_blob`.
        """
        files = sorted(contents, key=lambda content: content.identifier)
        check_identifiers([content.identifier for content in files])
        self.limits.check_upload(sum(len(content.data) for content in files))
        check_epochs(epochs)
        metadata = msgspec.json.encode([{"identifier": c.identifier, "tags": c.tags} for c in files if c.tags])

        def form() -> aiohttp.FormData:
            fields = aiohttp.FormData(default_to_multipart=True)
            for content in files:
                fields.add_field(
                    content.identifier,
                    io.BytesIO(content.data),  # sent in chunks; bytes would hold up the loop
                    filename=content.identifier,
                    content_type="application/octet-stream",
                )
            if metadata != b"[]":
                fields.add_field("_metadata", metadata.decode(), content_type="application/json")
            return fields

        async def attempt(base: str) -> StoredQuilt:
            body, simulated = await self._put(f"{base}/v1/quilts", form, epochs=epochs, size=None)
            return read_quilt_result(body, files, simulated=simulated, what=f"PUT {base}/v1/quilts")

        return await self._through(self._publishers, attempt, "publisher")

    async def read_blob(self, blob_id: str, *, digest: str | None) -> bytes:
        """The bytes of a blob.

        Args:
            blob_id: 43 characters.
            digest: blake2b-256 that the bytes must have; None only where something else proves them.

        Raises:
            NotFound: `walrus-not-found`, after all attempts: just stored blobs may take a while to show.
            DecodeError: `walrus-digest`: every aggregator gave other bytes.
            Refused: `walrus-blocked`. Unavailable: no aggregator answers.
        """
        decode_id(blob_id)
        return await self._read(f"/v1/blobs/{blob_id}", digest)

    async def read_patch(self, patch_id: str, *, digest: str) -> bytes:
        """The bytes of one file of a quilt; errors as `read_blob`."""
        return await self._read(f"/v1/blobs/by-quilt-patch-id/{patch_id}", digest)

    async def read_from_quilt(self, quilt_id: str, identifier: str, *, digest: str) -> bytes:
        """The bytes of a file of a quilt by its name; errors as `read_blob`."""
        decode_id(quilt_id)
        check_identifiers([identifier])
        return await self._read(f"/v1/blobs/by-quilt-id/{quilt_id}/{identifier}", digest)

    async def patches(self, quilt_id: str) -> tuple[QuiltPatch, ...]:
        """What a quilt holds; errors as `read_blob`."""
        decode_id(quilt_id)
        path = f"/v1/quilts/{quilt_id}/patches"

        async def attempt(base: str) -> tuple[QuiltPatch, ...]:
            return read_patch_list(await self._get(base + path), f"GET {base}{path}")

        return await self._through(self._aggregators, attempt, "aggregator", repeat=(NotFound,))

    async def check(self) -> None:
        """Whether an aggregator speaks: asks for a blob that nobody stored and wants a well-formed 404.

        Raises:
            Unavailable: none does.
        """
        last: DaasError = Unavailable("no aggregator", reason="walrus-unavailable")
        for base in self._aggregators:
            try:
                await self._get(f"{base}/v1/blobs/{'A' * 43}")
            except NotFound:
                return
            except DaasError as error:
                last = error
        raise last

    async def _read(self, path: str, digest: str | None) -> bytes:
        async def attempt(base: str) -> bytes:
            data = await self._get(base + path)
            if digest is not None and digest_of(data) != digest:
                raise DecodeError(
                    f"GET {base}{path}: bytes that hash to {digest_of(data)}; expected {digest}",
                    reason="walrus-digest",
                )
            return data

        return await self._through(self._aggregators, attempt, "aggregator", repeat=(NotFound, DecodeError))

    async def _through(
        self,
        bases: list[str],
        attempt: Callable[[str], Awaitable[T]],
        role: str,
        *,
        repeat: tuple[type[DaasError], ...] = (),
    ) -> T:
        """The first attempt that succeeds, going round the endpoints; the one that worked stays in front."""
        if not bases:
            raise ConfigurationError(f"no {role} is given", reason="walrus-url", field=f"{role}s")
        wait_s = self._first_wait_s
        last: DaasError | None = None
        passing: tuple[type[DaasError], ...] = (Unavailable, *repeat)
        for number in range(self.limits.attempts):
            base = bases[0]
            try:
                return await attempt(base)
            except passing as error:
                last = error
            self.retries += 1
            if bases[0] == base:  # nobody else has turned away from it in the meantime
                bases.append(bases.pop(0))
            if number + 1 == self.limits.attempts:
                break
            if (number + 1) % len(bases) == 0:  # each endpoint has failed once more
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                wait_s = min(2 * wait_s, _LAST_WAIT_S)
        assert last is not None, "at least one attempt"
        raise last

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.limits.timeout_s, sock_connect=10)
            self._session = aiohttp.ClientSession(timeout=timeout, raise_for_status=False)
        return self._session

    async def _put(
        self, url: str, body: Callable[[], io.BytesIO | aiohttp.FormData], *, epochs: int, size: int | None
    ) -> tuple[bytes, bool]:
        async def with_token(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            # aiohttp itself repeats a PUT on a connection that broke: each one that goes out has a token of its own.
            if self._key is not None:
                request.headers["Authorization"] = f"Bearer {self._key.token(epochs=epochs, size=size)}"
            return await send(request)

        query = {"epochs": str(epochs), "permanent": "true"}
        try:
            async with self._open().put(
                url, params=query, data=body(), middlewares=(with_token,), allow_redirects=False
            ) as answer:
                return await self._body(answer, f"PUT {url}"), SIMULATED_HEADER in answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"PUT {url}: {type(error).__name__}", reason="walrus-unavailable") from None

    async def _get(self, url: str) -> bytes:
        try:
            async with self._open().get(url) as answer:
                return await self._body(answer, f"GET {url}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"GET {url}: {type(error).__name__}", reason="walrus-unavailable") from None

    async def _body(self, answer: aiohttp.ClientResponse, what: str) -> bytes:
        data = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) > self.limits.read_bytes:
                raise DecodeError(
                    f"{what}: an answer of more than {self.limits.read_bytes} bytes", reason="walrus-answer"
                )
        if answer.status != 200:
            raise from_answer(answer.status, bytes(data), what)
        return bytes(data)
