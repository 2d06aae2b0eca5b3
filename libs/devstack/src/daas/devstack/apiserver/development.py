"""A whole development API server over a state directory: store, identity, admission, listener, kubeconfig."""

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daas.devstack.apiserver.access import ADMINISTRATOR, AUTHENTICATED, MASTERS, StaticTokens, User
from daas.devstack.apiserver.admission import (
    AdmissionPlugin,
    Chain,
    DefaultTolerationSeconds,
    NamespaceLifecycle,
    Priority,
    ValidatingPhase,
)
from daas.devstack.apiserver.certificates import load_identity, write_kubeconfig
from daas.devstack.apiserver.controllers import SimulatedControllers
from daas.devstack.apiserver.disruption import SimulatedBudgets
from daas.devstack.apiserver.provisioner import SimulatedStorage
from daas.devstack.apiserver.resources import Object
from daas.devstack.apiserver.server import ApiServer, HealthCheck
from daas.devstack.apiserver.storage import HISTORY_EVENTS_MAX, IdentityTransform, Storage, StorageTransform
from daas.devstack.apiserver.webhooks.audit import BatchSender
from daas.devstack.apiserver.webhooks.dynamic import MutatingWebhooks, ValidatingWebhooks
from daas.devstack.apiserver.webhooks.endpoint import WebhookClient
from daas.devstack.apiserver.webhooks.options import WebhookOptions
from daas.devstack.apiserver.webhooks.policies import AdmissionPolicies
from daas.devstack.apiserver.writes import now

if TYPE_CHECKING:
    from daas.devstack.apiserver.encryption.transform import Encryption

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def _namespace(name: str) -> Object:
    return {
        "metadata": {
            "name": name,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now(),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


@dataclass(frozen=True)
class Running:
    """A development API server that listens."""

    url: str
    kubeconfig: Path
    server: ApiServer
    controllers: tuple[asyncio.Task[None], ...]
    webhooks: WebhookClient
    audit: BatchSender | None
    encryption: "Encryption | None" = None

    async def stop(self) -> None:
        """Stop it; the state stays."""
        for task in self.controllers:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.server.stop()
        if self.encryption is not None:
            await self.encryption.stop()
        if self.audit is not None:
            await self.audit.stop()
        await self.webhooks.close()


async def start(
    state: Path,
    *,
    port: int = 0,
    controllers: bool = True,
    history_events_max: int = HISTORY_EVENTS_MAX,
    webhooks: WebhookOptions | None = None,
    encryption_config: Path | None = None,
) -> Running:
    """Start a development API server on 127.0.0.1.

    Args:
        state: directory for the log, the certificates, the token and the kubeconfig; made if missing.
        port: 0 lets the system choose.
        controllers: whether the simulated controllers finish deletions, make volumes and count budgets; without them
            it is a bare API server.
        history_events_max: how many changes a watch can reach back.
        webhooks: authentication, authorization and audit webhooks; admission webhooks are objects of the API.
        encryption_config: an EncryptionConfiguration; without one everything is stored as it is.

    Raises:
        ConfigurationError: a file that `webhooks` or `encryption_config` names can't be used.
    """
    webhooks = webhooks or WebhookOptions()
    identity = load_identity(state)
    encryption = _encryption(encryption_config)
    transform: StorageTransform = encryption or IdentityTransform()
    storage = Storage(state / "log.sqlite", transform, history_events_max=history_events_max)
    client = WebhookClient()
    plugins: list[AdmissionPlugin] = [NamespaceLifecycle(storage), Priority(storage), DefaultTolerationSeconds()]
    shown = webhooks.admission_identities()
    validating: list[ValidatingPhase] = [
        AdmissionPolicies(storage),
        ValidatingWebhooks(storage, client, shown.validating),
    ]
    admission = Chain(plugins, MutatingWebhooks(storage, client, shown.mutating), validating)
    tokens = StaticTokens(webhooks.tokens() | {identity.token: User(ADMINISTRATOR, (MASTERS, AUTHENTICATED))})
    sender = webhooks.sender(client)
    authenticator = webhooks.authenticator(tokens, client)
    checks: dict[str, HealthCheck] = {}
    if encryption is not None:
        encryption.on_usable = storage.unlock

        async def informers() -> str:
            return f"not read yet: {', '.join(storage.locked)}" if storage.locked else ""

        checks = {"kms-providers": encryption.health, "informer-sync": informers}
    server = ApiServer(
        storage,
        admission,
        authenticator,
        webhooks.authorizer(storage, client),
        webhooks.audit(sender),
        checks=checks,
    )
    server.ensure_namespaces(NAMESPACES, _namespace)
    chosen = await server.start(port, identity.tls())
    url = f"https://127.0.0.1:{chosen}"
    if sender is not None:
        sender.start()
    if encryption is not None:
        encryption.start()
    kubeconfig = state / "kubeconfig"
    write_kubeconfig(kubeconfig, url, identity)
    stand_ins = (SimulatedControllers(storage), SimulatedStorage(storage), SimulatedBudgets(storage))
    tasks = tuple(asyncio.create_task(one.run()) for one in stand_ins) if controllers else ()
    return Running(url, kubeconfig, server, tasks, client, sender, encryption)


def _encryption(path: Path | None) -> "Encryption | None":
    if path is None:
        return None
    # gRPC takes 17 MB: only servers that encrypt load it.
    from daas.devstack.apiserver.encryption.config import load  # noqa: PLC0415
    from daas.devstack.apiserver.encryption.transform import Encryption  # noqa: PLC0415

    return Encryption(load(path))
