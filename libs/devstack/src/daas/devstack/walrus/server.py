"""The stand-in's HTTP: a publisher's and an aggregator's routes, and a few of its own below `/simulated` for tests."""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import jwt
from aiohttp import web

from daas.devstack.walrus import quilt
from daas.devstack.walrus.store import BlobStore, blob_id_of

UPLOAD_BYTES: Final = 10 * 1024 * 1024
MAX_EPOCHS: Final = 53
_HEADER: Final = "X-Daas-Simulated"
_ADDRESS: Final = re.compile("0x[0-9a-f]{1,64}")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _status(code: int, kind: str, message: str) -> web.Response:
    """A failed call as Walrus's servers say it."""
    body = {"error": {"code": code, "status": kind, "message": message, "details": []}}
    return web.json_response(body, status=code)


class _Refusal(Exception):
    def __init__(self, code: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.answer = _status(code, kind, message)


class WalrusServer:
    """Publisher and aggregator on one loopback port.

    Args:
        store: the blobs.
        port: 0 lets the system choose; a restart that names the port keeps it.
        jwt_secret: uploads need a token (HS256) signed with it; None: anyone may upload.
        jwt_expiring_s: for how long a token may be good; 0: for as long as it says.
        upload_bytes: largest upload.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        port: int = 0,
        jwt_secret: bytes | None = None,
        jwt_expiring_s: int = 0,
        upload_bytes: int = UPLOAD_BYTES,
    ) -> None:
        self.store = store
        self._port = port
        self._secret = jwt_secret
        self._expiring_s = jwt_expiring_s
        self._upload_bytes = upload_bytes
        self._blocked: set[str] = set()
        #: Failures still to come, by name: `unavailable`, `lost` (stored, but the answer is cut), `not_found`,
        #: `corrupt`, and those that come with status 200: `invalid` (marked so), `failed`.
        self.faults: dict[str, int] = {}
        self.uploads = 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens."""
        app = web.Application(middlewares=[self._judge], client_max_size=2 * self._upload_bytes + 1_048_576)
        app.add_routes(
            [
                web.put("/v1/blobs", self._put_blob),
                web.put("/v1/quilts", self._put_quilt),
                web.get("/v1/blobs/by-object-id/{object}", self._get_object),
                web.get("/v1/blobs/by-quilt-patch-id/{patch}", self._get_patch),
                web.get("/v1/blobs/by-quilt-id/{quilt}/{identifier}", self._get_from_quilt),
                web.get("/v1/quilts/{quilt}/patches", self._get_patches),
                web.get("/v1/blobs/{blob}", self._get_blob),
                web.get("/simulated", self._about),
                web.post("/simulated/epochs", self._skip),
                web.post("/simulated/faults", self._fail),
                web.post("/simulated/blocked/{blob}", self._block),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _judge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await handler(request)
        except _Refusal as refusal:
            answer = refusal.answer
        answer.headers[_HEADER] = "true"
        return answer

    def _fault(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        if left:
            self.faults[name] = left - 1
        return left > 0

    # publisher

    async def _put_blob(self, request: web.Request) -> web.StreamResponse:
        wanted = _Wanted.of(request)
        data = await self._read(request)
        self._authorize(request, wanted, len(data))
        result = self._store(data, wanted)
        return self._answer(request, result)

    async def _put_quilt(self, request: web.Request) -> web.StreamResponse:
        wanted = _Wanted.of(request)
        files, size = await self._form(request)
        self._authorize(request, wanted, size)
        try:
            data, index = quilt.encode(files)
        except ValueError as error:
            raise _Refusal(400, "INVALID_ARGUMENT", f"the quilt is none: {error}") from None
        result = self._store(data, wanted)
        quilt_id = quilt.parse_blob_id(blob_id_of(data))
        patches = [
            {"identifier": row["identifier"], "quiltPatchId": quilt.patch_id(quilt_id, row), "range": None}
            for row in index
        ]
        return self._answer(request, {"blobStoreResult": result, "storedQuiltBlobs": patches})

    def _answer(self, request: web.Request, result: dict[str, Any]) -> web.StreamResponse:
        if self._fault("lost") and request.transport is not None:
            request.transport.abort()
        return web.json_response(result)

    def _store(self, data: bytes, wanted: "_Wanted") -> dict[str, Any]:
        self.uploads += 1
        if self._fault("unavailable"):
            raise _Refusal(504, "DEADLINE_EXCEEDED", "too few storage nodes confirmed in time")
        if self._fault("invalid"):
            event = {"txDigest": secrets.token_hex(16), "eventSeq": "0"}
            return {"markedInvalid": {"blobId": blob_id_of(data), "event": event}}
        if self._fault("failed"):
            return {"error": {"blobId": None, "failurePhase": "store", "errorMsg": "too few shards took their slivers"}}
        record, created = self.store.put(data, epochs=wanted.epochs, permanent=wanted.permanent, force=wanted.force)
        if record["blob_id"] in self._blocked:
            raise _Refusal(451, "PERMISSION_DENIED", "the blob is blocked")
        if not created:
            event = {"txDigest": record["tx_digest"], "eventSeq": "0"}
            return {"alreadyCertified": {"blobId": record["blob_id"], "event": event, "endEpoch": record["end_epoch"]}}
        blob = {
            "id": record["object_id"],
            "registeredEpoch": record["registered_epoch"],
            "blobId": record["blob_id"],
            "size": record["size"],
            "encodingType": "RS2",
            "certifiedEpoch": record["registered_epoch"],
            "storage": {
                "id": record["object_id"],
                "startEpoch": record["registered_epoch"],
                "endEpoch": record["end_epoch"],
                "storageSize": record["encoded"],
            },
            "deletable": not record["permanent"],
        }
        operation = {"registerFromScratch": {"encodedLength": record["encoded"], "epochsAhead": wanted.epochs}}
        created_now = {"blobObject": blob, "resourceOperation": operation, "cost": record["cost"]}
        if wanted.share:
            created_now["sharedBlobObject"] = record["object_id"]
        return {"newlyCreated": created_now}

    async def _read(self, request: web.Request) -> bytes:
        data = bytearray()
        async for chunk in request.content.iter_chunked(65_536):
            data += chunk
            if len(data) > self._upload_bytes:
                raise _Refusal(413, "OUT_OF_RANGE", "the blob is too large")
        return bytes(data)

    async def _form(self, request: web.Request) -> tuple[dict[str, tuple[bytes, dict[str, str]]], int]:
        if not request.content_type.startswith("multipart/"):
            raise _Refusal(400, "INVALID_ARGUMENT", "expected multipart/form-data")
        found: dict[str, bytes] = {}
        tags: dict[str, dict[str, str]] = {}
        size = 0
        async for part in await request.multipart():
            name, data = str(getattr(part, "name", "")), bytes(await part.read())  # type: ignore[union-attr]  # a body
            size += len(data)
            if size > self._upload_bytes:
                raise _Refusal(413, "OUT_OF_RANGE", "the quilt is too large")
            if name == "_metadata":
                tags = {row["identifier"]: row.get("tags", {}) for row in json.loads(data)}
            elif name in found:
                raise _Refusal(400, "INVALID_ARGUMENT", f"identifier {name!r} comes twice")
            else:
                found[name] = data
        if not tags.keys() <= found.keys():
            raise _Refusal(400, "INVALID_ARGUMENT", "metadata of a file that is not in the form")
        return {name: (data, tags.get(name, {})) for name, data in found.items()}, size

    def _authorize(self, request: web.Request, wanted: "_Wanted", size: int) -> None:
        if self._secret is None:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise _Refusal(401, "UNAUTHENTICATED", "a token is missing")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options={"require": ["exp", "jti"]})
        except jwt.PyJWTError as error:
            raise _Refusal(401, "UNAUTHENTICATED", f"the token is not valid: {error}") from None
        if ("epochs" in claims and "max_epochs" in claims) or ("size" in claims and "max_size" in claims):
            raise _Refusal(400, "INVALID_ARGUMENT", "a claim and its maximum exclude each other")
        if self._expiring_s and claims["exp"] - claims.get("iat", 0) > self._expiring_s:
            raise _Refusal(401, "UNAUTHENTICATED", f"a token may be good for {self._expiring_s} s")
        if claims.get("send_object_to", wanted.owner) != wanted.owner:
            raise _Refusal(400, "INVALID_ARGUMENT", "the token is for another owner of the object")
        epochs = wanted.epochs
        if claims.get("epochs", epochs) != epochs or claims.get("max_epochs", epochs) < epochs:
            raise _Refusal(400, "INVALID_ARGUMENT", "the token is for another number of epochs")
        if claims.get("size", size) != size or claims.get("max_size", size) < size:
            raise _Refusal(400, "INVALID_ARGUMENT", "the token is for another size")
        if not self.store.use_token(str(claims["jti"])):
            raise _Refusal(403, "PERMISSION_DENIED", "the token was used before")

    # aggregator

    async def _get_blob(self, request: web.Request) -> web.StreamResponse:
        strict, skip = (_flag_of(request, f"{name}_consistency_check") for name in ("strict", "skip"))
        if strict and skip:
            raise _Refusal(400, "INVALID_ARGUMENT", "strict and skip_consistency_check exclude each other")
        blob_id = request.match_info["blob"]
        data = self._blob(blob_id)
        if not skip and blob_id_of(data) != blob_id:
            raise _Refusal(500, "INTERNAL", "the blob is not consistent")
        return self._bytes(data, blob_id)

    async def _get_object(self, request: web.Request) -> web.StreamResponse:
        blob_id = self.store.by_object(request.match_info["object"])
        if blob_id is None:
            raise _Refusal(404, "NOT_FOUND", "the object does not exist")
        return self._bytes(self._blob(blob_id), blob_id)

    async def _get_patch(self, request: web.Request) -> web.StreamResponse:
        text = request.match_info["patch"]
        try:
            quilt_id, start, end = quilt.parse_patch_id(text)
        except ValueError as error:
            raise _Refusal(400, "INVALID_ARGUMENT", f"no quilt patch id: {error}") from None
        return self._file(quilt.blob_id_text(quilt_id), lambda row: (row["start"], row["end"]) == (start, end), text)

    async def _get_from_quilt(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["identifier"]
        return self._file(request.match_info["quilt"], lambda row: row["identifier"] == wanted, wanted)

    def _file(self, quilt_id: str, wanted: Callable[[dict[str, Any]], bool], tag: str) -> web.StreamResponse:
        blob = self._blob(quilt_id)
        found = quilt.index_of(blob)
        row = next((row for row in found[0]["patches"] if wanted(row)), None) if found else None
        if found is None or row is None:
            raise _Refusal(404, "NOT_FOUND", "the quilt patch does not exist")
        answer = self._bytes(quilt.data_of(blob, row, *found), tag)
        answer.headers["X-Quilt-Patch-Identifier"] = row["identifier"]
        return answer

    async def _get_patches(self, request: web.Request) -> web.StreamResponse:
        quilt_id = request.match_info["quilt"]
        found = quilt.index_of(self._blob(quilt_id))
        if found is None:
            raise _Refusal(404, "NOT_FOUND", "the blob is no quilt")
        raw = quilt.parse_blob_id(quilt_id)
        rows = found[0]["patches"]
        return web.json_response(
            [{"identifier": r["identifier"], "patch_id": quilt.patch_id(raw, r), "tags": r["tags"]} for r in rows]
        )

    def _blob(self, blob_id: str) -> bytes:
        try:
            quilt.parse_blob_id(blob_id)
        except ValueError as error:
            raise _Refusal(400, "INVALID_ARGUMENT", f"no blob id: {error}") from None
        if blob_id in self._blocked:
            raise _Refusal(451, "PERMISSION_DENIED", "the blob is blocked")
        data = None if self._fault("not_found") else self.store.read(blob_id)
        if data is None:
            raise _Refusal(404, "NOT_FOUND", "the requested blob has not yet been stored on Walrus")
        return data

    def _bytes(self, data: bytes, tag: str) -> web.Response:
        if self._fault("corrupt"):
            data = bytes([data[0] ^ 1]) + data[1:] if data else b"\0"
        return web.Response(
            body=data,
            content_type="application/octet-stream",
            headers={"ETag": f'"{tag}"', "Cache-Control": "public, max-age=86400, immutable"},
        )

    # the stand-in's own

    async def _about(self, _request: web.Request) -> web.StreamResponse:
        blobs = self.store.all()
        return web.json_response(
            {
                "simulated": True,
                "epoch": self.store.epoch,
                "epoch_ms": self.store.epoch_ms,
                "blobs": len(blobs),
                "bytes": sum(blob["size"] for blob in blobs),
                "uploads": self.uploads,
            }
        )

    async def _skip(self, request: web.Request) -> web.StreamResponse:
        self.store.skip(int(request.query.get("advance", "1")))
        return await self._about(request)

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        self.faults = {str(name): int(count) for name, count in (await request.json()).items()}
        return await self._about(request)

    async def _block(self, request: web.Request) -> web.StreamResponse:
        self._blocked.add(request.match_info["blob"])
        return await self._about(request)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The query of an upload."""

    epochs: int
    permanent: bool
    force: bool
    share: bool
    owner: str | None

    @classmethod
    def of(cls, request: web.Request) -> Self:
        query = request.query
        names = ("deletable", "permanent", "force", "share", "reuse_resources")
        flags = {name: _flag_of(request, name) for name in names}
        epochs, owner = query.get("epochs", "1"), query.get("send_object_to")
        if not epochs.isdecimal() or not 1 <= int(epochs) <= MAX_EPOCHS:
            raise _Refusal(400, "INVALID_ARGUMENT", f"epochs: expected 1 to {MAX_EPOCHS}")
        if flags["deletable"] and flags["permanent"]:
            raise _Refusal(400, "INVALID_ARGUMENT", "the blob cannot be defined as both deletable and permanent")
        if flags["share"] and owner is not None:
            raise _Refusal(400, "INVALID_ARGUMENT", "share and send_object_to exclude each other")
        if owner is not None and not _ADDRESS.fullmatch(owner):
            raise _Refusal(400, "INVALID_ARGUMENT", "send_object_to: expected an address")
        if query.get("encoding_type", "RS2") != "RS2":
            raise _Refusal(400, "INVALID_ARGUMENT", "encoding_type: expected RS2")
        return cls(int(epochs), flags["permanent"], flags["force"], flags["share"], owner)


def _flag_of(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise _Refusal(400, "INVALID_ARGUMENT", f"{name}: {text!r} is neither true nor false")
    return text == "true"
