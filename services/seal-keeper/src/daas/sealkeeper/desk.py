"""Answers `secret.seal` and `secret.open`: opens the request, does what it asks, tells the bus what happened."""

import time
from collections.abc import Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

from daas.common import subjects
from daas.common.bus import Bus, Event
from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.common.messages import Message
from daas.common.secret_facts import SecretDenied, SecretOpened, SecretSealed
from daas.seal import Certificate, SealClient, SessionKey, parse_address
from daas.sealkeeper.policies import PolicyBook
from daas.secrets import (
    DataKey,
    KeeperKey,
    OpenAnswer,
    OpenQuestion,
    SealAnswer,
    SealedSecret,
    SealQuestion,
    SecretReply,
    SecretRequest,
    open_secret,
    seal_reply,
    seal_secret,
    share_envelope,
    shared_object,
)
from daas.secrets.reading import PlacesOfLedger

log = get_logger("sealkeeper.desk")

#: Shared envelopes whose data keys are kept in memory; a namespace whose key was dropped gets another envelope.
_SHARED_MAX: Final = 1_024
_NAMED_MAX: Final = 253
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Desk:
    """Where requests are answered.

    Args:
        bus: for the facts.
        key: the keeper's.
        policies: what to seal under.
        client: to the key servers, for opening.
        ledger: to name policies in requests for keys.
        package: the Move package.
        simulated: whether what is published happens in a simulated cluster.
        metrics: where the counters go.
    """

    def __init__(
        self,
        bus: Bus,
        key: KeeperKey,
        *,
        policies: PolicyBook,
        client: SealClient,
        ledger: PlacesOfLedger,
        package: str,
        simulated: bool,
        metrics: CollectorRegistry,
    ) -> None:
        self._bus, self._key, self._policies, self._client = bus, key, policies, client
        self._ledger, self._package, self._simulated = ledger, package, simulated
        self._shared: dict[tuple[str, int, str], DataKey] = {}
        self._answers = Counter(
            "daas_seal_keeper_requests", "Requests by action and outcome", ["action", "outcome"], registry=metrics
        )
        self._seconds = Histogram(
            "daas_seal_keeper_seconds", "Time to answer a request", ["action"], buckets=_SECONDS, registry=metrics
        )

    async def seal(self, event: Event[SecretRequest]) -> SecretReply:
        """Seals a Secret."""
        started = time.monotonic()
        subject, cluster = subjects.SECRET_SEAL, self._bus.cluster
        question = self._key.open(event.body, cluster, subject, SealQuestion)
        try:
            manifest = await self._sealed(question)
            reply = seal_reply(event.body, question.reply_key, cluster, subject, SealAnswer(manifest=manifest))
        except DaasError as error:
            await self._denied("seal", question.manifest, question.policy_name, "", error)
            raise
        secret = SealedSecret.parse(cluster, manifest)
        fact = SecretSealed(
            namespace=secret.place.namespace,
            name=secret.place.name,
            policy_name=question.policy_name,
            policy=secret.policy,
            generation=secret.generation,
            scope=secret.envelope.id.scope.name.lower(),
            values=len(secret.values),
            simulated=self._simulated,
        )
        await self._tell(subjects.SECRET_SEALED, fact, f"sealed:{secret.envelope.id.salt.hex()}:{secret.place}")
        self._done("seal", "ok", started)
        return reply

    async def open(self, event: Event[SecretRequest]) -> SecretReply:
        """Opens a Secret as the requester, with the session that the requester lends."""
        started = time.monotonic()
        subject, cluster = subjects.SECRET_OPEN, self._bus.cluster
        question = self._key.open(event.body, cluster, subject, OpenQuestion)
        user = question.certificate.user
        try:
            secret = SealedSecret.parse(cluster, question.manifest)
            values = await self._opened(question, secret)
            reply = seal_reply(event.body, question.reply_key, cluster, subject, OpenAnswer(data=values))
        except DaasError as error:
            await self._denied("open", question.manifest, _policy_of(question.manifest), user, error)
            raise
        fact = SecretOpened(
            namespace=secret.place.namespace,
            name=secret.place.name,
            policy=secret.policy,
            generation=secret.generation,
            requester=user,
            simulated=self._simulated,
        )
        await self._tell(subjects.SECRET_OPENED, fact, f"opened:{self._bus.unique()}")
        self._done("open", "ok", started)
        return reply

    async def _sealed(self, question: SealQuestion) -> dict[str, object]:
        parameters = await self._policies.parameters(question.policy_name)
        encryptor = parameters.key_servers.encryptor()
        shared = None
        if question.shared:
            metadata = question.manifest.get("metadata")
            namespace = str(metadata.get("namespace", "")) if isinstance(metadata, Mapping) else ""
            place = (parameters.policy, parameters.generation, namespace)
            shared = self._shared.get(place) or share_envelope(parameters, encryptor, namespace)
            if len(self._shared) >= _SHARED_MAX:
                self._shared.pop(next(iter(self._shared)))
            self._shared[place] = shared
        return seal_secret(question.manifest, parameters, encryptor, shared=shared)

    async def _opened(self, question: OpenQuestion, secret: SealedSecret) -> dict[str, bytes]:
        session = _session(question.session_secret, self._package, question.certificate)
        policy = await shared_object(self._ledger, secret.policy)
        try:
            return await open_secret(
                self._client, session, secret, package=self._package, policy=policy, right=question.right
            )
        finally:
            self._client.forget(session)

    async def _denied(
        self, action: Literal["seal", "open"], manifest: Mapping[str, object], policy: str, user: str, error: DaasError
    ) -> None:
        metadata = manifest.get("metadata")
        names = metadata if isinstance(metadata, Mapping) else {}
        fact = SecretDenied(
            action=action,
            namespace=str(names.get("namespace", ""))[:_NAMED_MAX],
            name=str(names.get("name", ""))[:_NAMED_MAX],
            policy=policy[:_NAMED_MAX],
            requester=user[:_NAMED_MAX],
            reason=error.reason[:_NAMED_MAX],
            message=error.message[:4096],
            simulated=self._simulated,
        )
        await self._tell(subjects.SECRET_DENIED, fact, f"denied:{self._bus.unique()}")
        self._done(action, error.reason, time.monotonic())
        log.info("denied", action=action, namespace=fact.namespace, name=fact.name, error=error)

    async def _tell(self, subject: subjects.Subject, fact: Message, message_id: str) -> None:
        """A fact that can't be told must not keep an answer back for long: the bus bounds the attempt."""
        try:
            await self._bus.publish(subject, fact, message_id=message_id)
        except DaasError as error:
            log.warning("a fact was not published", subject=subject.name, error=error)

    def _done(self, action: str, outcome: str, started: float) -> None:
        self._answers.labels(action, outcome).inc()
        self._seconds.labels(action).observe(time.monotonic() - started)


def _session(secret: bytes, package: str, certificate: Certificate) -> SessionKey:
    return SessionKey(secret, parse_address(package), certificate)


def _policy_of(manifest: Mapping[str, object]) -> str:
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return str(annotations.get("k3s-daas.io/seal-policy", "")) if isinstance(annotations, Mapping) else ""
