"""Audit: a policy decides how much of a request is told, a batch sender tells it to a webhook; overflow is dropped."""

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import web

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.access import Attributes, Decision, User
from daas.devstack.apiserver.request import Trail
from daas.devstack.apiserver.webhooks.endpoint import Endpoint, WebhookClient, WebhookError

Object = dict[str, Any]

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
TIMEOUT_S = 30.0
#: kube-apiserver's --audit-webhook-batch-buffer-size and --audit-webhook-batch-max-size.
BUFFER_EVENTS_MAX, BATCH_EVENTS_MAX = 10_000, 400
#: --audit-webhook-initial-backoff.
INITIAL_BACKOFF_S = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """What is known of a request while it is served."""

    received: datetime = field(default_factory=lambda: datetime.now(UTC))
    user: User | None = None
    attributes: Attributes | None = None
    decision: Decision | None = None
    trail: Trail = field(default_factory=Trail)


class AuditPolicy:
    """An `audit.k8s.io/v1` Policy: the first rule that matches sets the level."""

    def __init__(self, policy: Object) -> None:
        self._rules: list[Object] = policy.get("rules") or []
        self._omit: frozenset[str] = frozenset(policy.get("omitStages") or ())
        for rule in self._rules:
            if rule.get("level") not in LEVELS:
                raise ConfigurationError(f"rules: level {rule.get('level')!r} is not one of {', '.join(LEVELS)}",
                                         reason="audit-policy")  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "AuditPolicy":
        """The policy of a file.

        Raises:
            ConfigurationError: `audit-policy`.
        """
        try:
            policy = yaml.safe_load(path.read_text())
            if (policy["apiVersion"], policy["kind"]) != ("audit.k8s.io/v1", "Policy"):
                raise ConfigurationError(f"{path}: expected a Policy of audit.k8s.io/v1", reason="audit-policy")
            return cls(policy)
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            text = f"{path}: {type(error).__name__}: {error}"
            raise ConfigurationError(text, reason="audit-policy") from None

    def level(self, user: User, attributes: Attributes, stage: str) -> str:
        """None, Metadata, Request or RequestResponse."""
        if stage in self._omit:
            return "None"
        for rule in self._rules:
            if _rule_matches(rule, user, attributes):
                return "None" if stage in (rule.get("omitStages") or ()) else str(rule["level"])
        return "None"


def _rule_matches(rule: Object, user: User, wanted: Attributes) -> bool:
    if (users := rule.get("users")) and user.username not in users:
        return False
    if (groups := rule.get("userGroups")) and not set(groups) & set(user.groups):
        return False
    if (verbs := rule.get("verbs")) and wanted.verb not in verbs:
        return False
    urls, resources, namespaces = rule.get("nonResourceURLs"), rule.get("resources"), rule.get("namespaces")
    if wanted.path:
        fits = any(u in ("*", wanted.path) or (u.endswith("*") and wanted.path.startswith(u[:-1])) for u in urls or ())
        return fits if urls else not resources and not namespaces
    if urls and not resources and not namespaces:
        return False
    if namespaces and wanted.namespace not in namespaces:
        return False
    return not resources or any(_resource_matches(one, wanted) for one in resources)


def _resource_matches(one: Object, wanted: Attributes) -> bool:
    if one.get("group", "") != wanted.group:
        return False
    named = one.get("resources")
    sub = wanted.subresource
    whole = f"{wanted.resource}/{sub}" if sub else wanted.resource
    fits = {"*", whole} | ({f"*/{sub}", f"{wanted.resource}/*"} if sub else set())
    if named and not fits & set(named):
        return False
    names = one.get("resourceNames")
    return not names or wanted.name in names


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _decoded(response: web.StreamResponse) -> Object | None:
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or response.content_type != "application/json":
        return None
    found = orjson.loads(body)
    return found if isinstance(found, dict) else None


class AuditLog:
    """Turns served requests into events and hands them to the sender."""

    def __init__(self, policy: AuditPolicy, sender: "BatchSender") -> None:
        self._policy = policy
        self._sender = sender

    def record(self, request: web.BaseRequest, seen: Seen, response: web.StreamResponse) -> None:
        """Tell of a request that has been answered."""
        if seen.user is None or seen.attributes is None:
            return
        level = self._policy.level(seen.user, seen.attributes, "ResponseComplete")
        if level == "None":
            return
        answer = _decoded(response)
        event: Object = {
            "level": level,
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": request.raw_path,
            "verb": seen.attributes.verb,
            "user": seen.user.info(),
            "sourceIPs": [request.remote or ""],
            "userAgent": request.headers.get("User-Agent", ""),
        }
        sent = seen.trail.request_object
        if not seen.attributes.path:
            event["objectRef"] = _reference(seen.attributes, sent)
        event["responseStatus"] = _status(answer, response.status)
        if level in ("Request", "RequestResponse") and sent is not None and answer is not None:
            event["requestObject"] = {"kind": answer.get("kind"), "apiVersion": answer.get("apiVersion"), **sent}
        if level == "RequestResponse" and answer is not None:
            event["responseObject"] = answer
        event["requestReceivedTimestamp"] = _micro(seen.received)
        event["stageTimestamp"] = _micro(datetime.now(UTC))
        event["annotations"] = {**_judgement(seen.decision), **seen.trail.annotations}
        self._sender.offer(event)


def _judgement(decision: Decision | None) -> Mapping[str, str]:
    if decision is None:
        return {}
    if decision.error and not decision.allowed:
        return {"authorization.k8s.io/reason": "internal error"}
    word = "allow" if decision.allowed else "forbid"
    return {"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": decision.reason}


def _reference(attributes: Attributes, sent: Object | None) -> Object:
    meta = (sent or {}).get("metadata") or {}
    values = {
        "resource": attributes.resource,
        "namespace": attributes.namespace,
        "name": attributes.name or meta.get("name", ""),
        "apiGroup": attributes.group,
        "apiVersion": attributes.version,
        "subresource": attributes.subresource,
    }
    return {name: value for name, value in values.items() if value}


def _status(answer: Object | None, code: int) -> Object:
    out: Object = {"metadata": {}}
    if answer is not None and answer.get("kind") == "Status":
        names = ("status", "message", "reason", "details")
        out |= {name: answer[name] for name in names if answer.get(name)}
    return out | {"code": code}


class BatchSender:
    """`--audit-webhook-mode=batch`: events wait in a bounded buffer and leave together; what does not fit is lost."""

    def __init__(
        self,
        client: WebhookClient,
        endpoint: Endpoint,
        *,
        max_wait_s: float = 30.0,
        buffer_max: int = BUFFER_EVENTS_MAX,
        batch_max: int = BATCH_EVENTS_MAX,
        initial_backoff_s: float = INITIAL_BACKOFF_S,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._max_wait_s = max_wait_s
        self._buffer_max = buffer_max
        self._batch_max = batch_max
        self._initial_backoff_s = initial_backoff_s
        self._waiting: deque[Object] = deque()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run())

    def offer(self, event: Object) -> None:
        """Put an event in line, or drop it where the line is full."""
        if len(self._waiting) >= self._buffer_max:
            self.dropped += 1
            return
        self._waiting.append(event)
        if len(self._waiting) >= self._batch_max:
            self._full.set()

    async def _run(self) -> None:
        while True:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._max_wait_s):
                    await self._full.wait()
            await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._batch_max, len(self._waiting)))]
            await self._send(batch)

    async def _send(self, batch: Iterable[Object]) -> None:
        events = list(batch)
        body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events}
        try:
            first_s = self._initial_backoff_s
            await self._client.post_patiently(self._endpoint, body, TIMEOUT_S, first_s=first_s)
        except WebhookError as error:
            self.dropped += len(events)
            _LOG.warning("Error in audit plugin 'webhook' affecting %d audit events: %s", len(events), error.message)

    async def stop(self) -> None:
        """Send what waits, once."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._flush()
