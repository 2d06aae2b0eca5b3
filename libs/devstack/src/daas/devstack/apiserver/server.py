"""The request path: authenticate, authorize, decode, then read, write, watch or review; every refusal a Status."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from daas.common.errors import Unavailable
from daas.devstack.apiserver import discovery, errors, openapi, pods, reads
from daas.devstack.apiserver.access import Attributes, Authenticator, Authorizer, User, refusal
from daas.devstack.apiserver.admission import Chain
from daas.devstack.apiserver.deletes import Deleter, parse_delete_options
from daas.devstack.apiserver.request import BODY_BYTES_MAX, Call, decode_body, parse_target, verb_of
from daas.devstack.apiserver.resources import BY_KEY, Object
from daas.devstack.apiserver.responses import (
    encode,
    encode_item,
    encode_list,
    encode_object,
    json_response,
    success,
)
from daas.devstack.apiserver.responses import refusal as refusal_response
from daas.devstack.apiserver.reviews import REVIEWS, review
from daas.devstack.apiserver.scale import read_scale, write_scale
from daas.devstack.apiserver.storage import Record, Storage
from daas.devstack.apiserver.watch import Watcher, watch
from daas.devstack.apiserver.webhooks.audit import AuditLog, Seen
from daas.devstack.apiserver.writes import Writer, current

_LOG = logging.getLogger(__name__)
_HEALTH = frozenset({"healthz", "livez", "readyz"})

#: A health check: empty if all is well, or what is not.
HealthCheck = Callable[[], Awaitable[str]]


class AuthorizationFailed(Unavailable):
    """An authorizer could not be asked: the client gets a bare 500, as kube-apiserver gives it."""


class ApiServer:
    """The API over one store. `handle` answers any request; `start` listens."""

    def __init__(
        self,
        storage: Storage,
        admission: Chain,
        authenticator: Authenticator,
        authorizer: Authorizer,
        audit: AuditLog | None = None,
        *,
        checks: Mapping[str, HealthCheck] | None = None,
    ) -> None:
        self.storage = storage
        self._admission = admission
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._audit = audit
        self._checks = {"ping": _ping, **(checks or {})}
        self._writer = Writer(storage, admission)
        self._deleter = Deleter(storage, admission)
        self._watchers: set[Watcher] = set()
        self._runner: web.ServerRunner | None = None
        self.failures = 0

    # Listening -------------------------------------------------------------------------------------------------

    async def start(self, port: int, tls: ssl.SSLContext) -> int:
        """Listen on 127.0.0.1; port 0 lets the system choose. The port."""

        def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            loop = asyncio.get_running_loop()
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)

        server = web.Server(
            # Cancelling when the client goes ends its watch at once instead of at the next event.
            self.handle,
            request_factory=make_request,
            access_log=None,
            handler_cancellation=True,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls, backlog=1024)
        await site.start()
        chosen: int = self._runner.addresses[0][1]
        return chosen

    async def stop(self) -> None:
        """End the watches, finish what is under way, close the store."""
        for watcher in tuple(self._watchers):
            watcher.end()
        if self._runner is not None:
            await self._runner.cleanup()
        self.storage.close()

    # The request path ------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and tell the audit log."""
        seen = Seen()
        response = await self._answer(request, seen)
        if self._audit is not None:
            self._audit.record(request, seen, response)
        return response

    async def _answer(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        try:
            return await self._serve(request, seen)
        except AuthorizationFailed as failed:
            return web.Response(text=f'Internal Server Error: "{request.raw_path}": {failed.message}\n', status=500)
        except errors.ApiError as refused:
            return refusal_response(refused)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity too large: limit is {BODY_BYTES_MAX}"
            return refusal_response(errors.ApiError(413, "RequestEntityTooLarge", text))
        except Exception:  # noqa: BLE001 - the outermost loop of a request, with a counter
            self.failures += 1
            _LOG.exception("request failed: %s %s", request.method, request.path)
            text = f"Internal error occurred: {request.method} {request.path} failed in the development server"
            return refusal_response(errors.ApiError(500, "InternalError", text))

    async def _serve(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        path = request.path
        user = seen.user = await self._authenticate(request)
        parts = [part for part in path.split("/") if part]
        is_resource = (parts[:1] == ["api"] and len(parts) > 2) or (parts[:1] == ["apis"] and len(parts) > 3)
        if not is_resource:
            await self._allow(user, Attributes(verb=request.method.lower(), path=path), seen)
            if parts and parts[0] in _HEALTH and request.method in ("GET", "HEAD"):
                return await self._health(parts, verbose="verbose" in request.query)
            return self._non_resource(request, parts)
        target = parse_target(path)
        call = Call(request, user, verb_of(request.method, target, request.query), target, [], seen.trail)
        await self._allow(user, call.attributes(), seen)
        verbs = target.resource.verbs
        if target.subresource:
            sub = target.resource.subresource(target.subresource)
            verbs = sub.verbs if sub else ()
        if call.verb not in verbs:
            raise errors.method_not_allowed()
        return await self._dispatch(call)

    async def _authenticate(self, request: web.BaseRequest) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise errors.unauthorized()
        user = await self._authenticator.authenticate(token.strip())
        if user is None:
            raise errors.unauthorized()
        return user

    async def _allow(self, user: User, attributes: Attributes, seen: Seen) -> None:
        seen.attributes = attributes
        decision = seen.decision = await self._authorizer.authorize(user, attributes)
        if not decision.allowed:
            if decision.error:
                raise AuthorizationFailed(decision.error, reason="authorization-failed")
            why = refusal(user, attributes) + (f": {decision.reason}" if decision.reason else "")
            raise errors.forbidden(attributes.resource or attributes.path, attributes.group, attributes.name, why)

    def _non_resource(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        accept = request.headers.get("Accept", "")
        if not parts:
            return json_response({"paths": ["/api", "/apis", "/livez", "/openapi/v3", "/readyz", "/version"]})
        try:
            if parts[0] == "version":
                return json_response(discovery.version_info())
            if parts[:2] == ["openapi", "v3"]:
                return json_response(self._openapi(parts[2:]))
            if parts in (["api"], ["apis"]):
                return self._groups(accept, core=parts == ["api"])
            if parts[0] == "api":
                return json_response(discovery.resource_list("", parts[1]))
            if parts[0] == "apis" and len(parts) == 2:
                return json_response({"kind": "APIGroup", "apiVersion": "v1", **discovery.api_group(parts[1])})
            if parts[0] == "apis":
                return json_response(discovery.resource_list(parts[1], parts[2]))
        except KeyError as unknown:
            raise errors.path_not_found() from unknown
        raise errors.path_not_found()

    async def _health(self, parts: list[str], *, verbose: bool) -> web.Response:
        """As kube-apiserver's: `ok`, or every check with what failed; reasons are for the log, and for one check."""
        if len(parts) > 2 or (len(parts) == 2 and parts[1] not in self._checks):
            raise errors.path_not_found()
        if len(parts) == 2:
            problem = await self._checks[parts[1]]()
            if problem:
                return web.Response(text=f"internal server error: {problem}\n", status=500)
            return web.Response(text="ok")
        lines, failed = [], False
        for name, check in self._checks.items():
            problem = await check()
            failed = failed or bool(problem)
            lines.append(f"[-]{name} failed: reason withheld" if problem else f"[+]{name} ok")
            if problem:
                _LOG.warning("%s: check %s failed: %s", parts[0], name, problem)
        if failed:
            return web.Response(text="\n".join([*lines, f"{parts[0]} check failed", ""]), status=500)
        return web.Response(text="\n".join([*lines, f"{parts[0]} check passed", ""]) if verbose else "ok")

    @staticmethod
    def _openapi(rest: list[str]) -> Object:
        if not rest:
            return openapi.index()
        if rest[0] == "api" and len(rest) == 2:
            return openapi.document("", rest[1])
        if rest[0] == "apis" and len(rest) == 3:
            return openapi.document(rest[1], rest[2])
        raise errors.path_not_found()

    @staticmethod
    def _groups(accept: str, *, core: bool) -> web.Response:
        for media, version in ((discovery.AGGREGATED_V2, "v2"), (discovery.AGGREGATED_V2BETA1, "v2beta1")):
            if f"v={version};as=APIGroupDiscoveryList" in accept.replace(" ", ""):
                body = orjson.dumps(discovery.aggregated(core=core, api_version=version))
                return web.Response(body=body, headers={"Content-Type": media})
        return json_response(discovery.api_versions() if core else discovery.api_groups())

    # Resources -------------------------------------------------------------------------------------------------

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        verb, target = call.verb, call.target
        if target.subresource == "scale":
            return await self._scale(call)
        if verb == "get":
            return reads.get(self.storage, call)
        if verb == "list":
            return reads.list_objects(self.storage, call)
        if verb == "watch":
            return await watch(self.storage, call, self._watchers)
        raw = await call.http.read()
        content_type = call.http.headers.get("Content-Type", "")
        if verb in ("delete", "deletecollection"):
            options = parse_delete_options(raw, decode_body(content_type, raw) if raw else None)
            return await (self._delete(call, options) if verb == "delete" else self._delete_collection(call, options))
        body = decode_body(content_type, raw)
        if verb == "create":
            return await self._create(call, body)
        if verb == "update":
            result, created = await self._writer.update(call, body)
        else:
            result, created = await self._writer.patch(call, content_type, body, raw)
        return self._written(call, result, 201 if created else 200)

    def _written(self, call: Call, result: Record | Object, code: int) -> web.Response:
        resource = call.target.resource
        body = encode(resource, result) if isinstance(result, Record) else encode_object(resource, result)
        return json_response(body, code, call.warnings)

    async def _create(self, call: Call, body: Any) -> web.Response:
        target = call.target
        if target.resource.plural in REVIEWS:
            answer = await review(call, body, self._authenticator, self._authorizer)
            return json_response(answer, 201, call.warnings)
        if target.subresource == "binding" or target.resource.key == "bindings":
            await pods.bind(self.storage, self._admission, call, body)
            return json_response(success(201), 201, call.warnings)
        if target.subresource == "eviction":
            await pods.evict(self.storage, self._deleter, call, body)
            return json_response(success(201), 201, call.warnings)
        if target.name or (target.resource.namespaced and target.namespace is None):
            raise errors.method_not_allowed()
        return self._written(call, await self._writer.create(call, body), 201)

    async def _delete(self, call: Call, options: Object) -> web.Response:
        resource = call.target.resource
        record = current(self.storage, call)
        left, gone = await self._deleter.delete(call, record, options)
        if not gone or resource.returns_deleted:
            return json_response(encode(resource, left), 200, call.warnings)
        details = {"name": left.name, "kind": resource.plural, "uid": left.object()["metadata"]["uid"]}
        if resource.group:
            details = {"name": left.name, "group": resource.group, "kind": resource.plural, "uid": details["uid"]}
        return json_response(success(details=details), 200, call.warnings)

    async def _delete_collection(self, call: Call, options: Object) -> web.Response:
        wanted = reads.Filter(call)
        resource = call.target.resource
        found = [one for one in self.storage.records(resource, call.target.namespace) if wanted.matches(one)]
        items: list[bytes] = []
        for record in found:
            if self.storage.get(resource, record.namespace, record.name) is record:
                left, _ = await self._deleter.delete(call, record, options)
                items.append(encode_item(resource, left))
        return json_response(encode_list(resource, items, {"resourceVersion": str(self.storage.version)}))

    async def _scale(self, call: Call) -> web.Response:
        record = current(self.storage, call)
        if call.verb == "get":
            return json_response(read_scale(record.object()))
        raw = await call.http.read()
        content_type = call.http.headers.get("Content-Type", "")
        scaled = write_scale(record.object(), decode_body(content_type, raw), content_type, patch=call.verb == "patch")
        result = await self._writer.replace(call, record, scaled)
        return json_response(read_scale(result.object() if isinstance(result, Record) else result))

    def ensure_namespaces(self, names: tuple[str, ...], make: Any) -> None:
        """Create the namespaces a new cluster begins with; `make` turns a name into the stored object."""
        for name in names:
            if self.storage.get(BY_KEY["namespaces"], "", name) is None:
                self.storage.create(BY_KEY["namespaces"], make(name))


async def _ping() -> str:
    return ""
