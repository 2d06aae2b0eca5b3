"""What the commands about sealed Secrets share: the API server, policies by name, parameters, opening as somebody."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from daas.cli.context import Context
from daas.common.errors import ConfigurationError, DaasError, InvalidInput, NotFound, Refused
from daas.kube.client import KubeClient
from daas.kube.listing import list_items
from daas.ledger import Ledger, Policy, Signer
from daas.seal import SealClient, SessionKey, parse_address
from daas.secrets import (
    KeyServers,
    SealedSecret,
    SealParameters,
    denial,
    open_secret,
    right_of,
    shared_object,
)
from daas.secrets.manifest import ENVELOPE, SEAL_POLICY

#: Where policies that are not pinned in the context are named: a map of name to object id.
NAMES_NAMESPACE: Final = "kube-system"
NAMES: Final = "seal-policies"
_SESSION_MIN: Final = 10
_NAMES_PATH: Final = f"/api/v1/namespaces/{NAMES_NAMESPACE}/configmaps"

Manifest = dict[str, Any]


def key_servers_of(context: Context) -> KeyServers:
    """The pinned key servers.

    Raises:
        ConfigurationError: `no-key-servers`.
    """
    if context.key_servers is None:
        raise ConfigurationError("the context pins no key_servers", reason="no-key-servers", field="key_servers")
    return context.key_servers


def package_of(context: Context) -> str:
    """The Move package.

    Raises:
        ConfigurationError: `no-package`.
    """
    if context.package is None:
        raise ConfigurationError("the context names no package", reason="no-package", field="package")
    return context.package


@asynccontextmanager
async def api_server(context: Context) -> AsyncIterator[KubeClient]:
    """The cluster's API server.

    Raises:
        ConfigurationError: `no-kubeconfig`.
    """
    if context.kubeconfig is None:
        raise ConfigurationError("the context names no kubeconfig", reason="no-kubeconfig", field="kubeconfig")
    async with await KubeClient.connect(Path(context.kubeconfig)) as client:
        yield client


async def policy_names(context: Context) -> dict[str, str]:
    """Object ids of policies by name: those of the API server, overruled by those that the context pins."""
    published: dict[str, str] = {}
    if context.kubeconfig is not None:
        async with api_server(context) as client:
            published = await _published(client)
    return published | context.seal_policies


async def policy_id(context: Context, name: str) -> str:
    """Object id of a policy by its name, or by itself.

    Raises:
        NotFound: `no-policy`.
    """
    if name.startswith("0x"):
        return "0x" + parse_address(name).hex()
    if name in context.seal_policies:
        return context.seal_policies[name]
    found = (await policy_names(context)).get(name)
    if found is None:
        raise NotFound(f"no Seal policy is called {name}", reason="no-policy", field="policy")
    return found


async def publish_name(context: Context, name: str, policy: str) -> None:
    """Writes a policy's name down on the API server.

    Raises:
        InvalidInput: `policy-name-taken`.
    """
    async with api_server(context) as client:
        names = await _published(client)
        if names.get(name, policy) != policy or context.seal_policies.get(name, policy) != policy:
            raise InvalidInput(f"another policy is called {name}", reason="policy-name-taken", field="name")
        body = {"metadata": {"name": NAMES, "namespace": NAMES_NAMESPACE}, "data": {name: policy}}
        try:
            patch = "application/merge-patch+json"
            await client.request("PATCH", f"{_NAMES_PATH}/{NAMES}", body={"data": {name: policy}}, content_type=patch)
        except NotFound:
            await client.request("POST", _NAMES_PATH, body={"apiVersion": "v1", "kind": "ConfigMap", **body})


async def _published(client: KubeClient) -> dict[str, str]:
    try:
        data = json.loads(await client.request("GET", f"{_NAMES_PATH}/{NAMES}")).get("data") or {}
    except NotFound:
        return {}
    return {str(name): "0x" + parse_address(str(value)).hex() for name, value in data.items()}


async def parameters_of(ledger: Ledger, context: Context, name: str) -> SealParameters:
    """Everything public that sealing under a policy needs, as the ledger has it now.

    Raises:
        NotFound: `no-policy`. Refused: `foreign-policy`: it belongs to another cluster.
    """
    policy = await checked_policy(ledger, context, await policy_id(context, name))
    names = {found: label for label, found in (await policy_names(context)).items()}
    label = names.get(policy.address, name)
    if label.startswith("0x"):
        raise NotFound("the policy has no name that Secrets could be labelled with", reason="no-policy", field="policy")
    return SealParameters(
        cluster=context.cluster,
        package=package_of(context),
        policy_name=label,
        policy=policy.address,
        generation=policy.generation,
        usage_limit=policy.rules.usage_limit,
        key_servers=key_servers_of(context),
        simulated=policy.simulated,
    )


async def checked_policy(ledger: Ledger, context: Context, address: str) -> Policy:
    """A policy of this cluster.

    Raises:
        NoSuchObject: there is none. Refused: `foreign-policy`.
    """
    policy = await ledger.policies.policy(address)
    if policy.registry != context.registry:
        raise Refused(f"policy {address} belongs to another cluster", reason="foreign-policy", field="policy")
    return policy


async def get_secret(client: KubeClient, namespace: str, name: str) -> Manifest:
    """A Secret as the API server has it."""
    manifest: Manifest = json.loads(await client.request("GET", _path(namespace, name)))
    return manifest


async def put_secret(client: KubeClient, manifest: Manifest) -> None:
    """Replaces a Secret in the version that was read.

    Raises:
        Conflict: it has been changed since.
    """
    metadata = manifest["metadata"]
    await client.request("PUT", _path(metadata["namespace"], metadata["name"]), body=manifest)


async def sealed_manifests(
    client: KubeClient, *, namespace: str | None = None, policy_name: str | None = None
) -> AsyncIterator[Manifest]:
    """Every Secret with an envelope, page by page."""
    path = "/api/v1/secrets" if namespace is None else f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
    # Without a name all Secrets are looked at: a label may have been taken off, and the Secret is sealed nevertheless.
    selector = "" if policy_name is None else f"{SEAL_POLICY}={policy_name}"
    async for item in list_items(client, path, label_selector=selector):
        if ENVELOPE in (item["metadata"].get("annotations") or {}):
            yield {"apiVersion": "v1", "kind": "Secret", **item}


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}"


class Opener:
    """Opens Secrets as one account; use as `async with`.

    Args:
        ledger: with the account as its signer: tickets are bought where a policy counts releases.
        signer: the account.
        context: the cluster.
        node: name of the node that the account is, where it reads as one.
    """

    def __init__(self, ledger: Ledger, signer: Signer, context: Context, *, node: str | None = None) -> None:
        self._ledger, self._signer, self._context, self._node = ledger, signer, context, node
        self._client = SealClient(key_servers_of(context).known())
        self._session: SessionKey | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def open(self, secret: SealedSecret, *, owner: bool = False) -> dict[str, bytes]:
        """The values.

        Raises:
            Refused: with the policy's reason. ThresholdUnreachable: too few key servers answer. NotAuthentic.
        """
        ledger, context = self._ledger, self._context
        policy = await checked_policy(ledger, context, secret.policy)
        session = await self._running_session()
        node = await self._node_id()
        ticket = None
        if policy.rules.usage_limit and not owner:
            inner_id = secret.envelope.sealed.inner_id
            try:
                bought = await ledger.policies.buy_ticket(policy, inner_id, session.verification_key, node)
            except DaasError as error:
                raise denial(error) or error from None
            ticket = bought.address
        right = await right_of(ledger, context.registry, node=node, ticket=ticket, owner=owner)
        shared = await shared_object(ledger, policy.address)
        return await open_secret(self._client, session, secret, package=package_of(context), policy=shared, right=right)

    async def _running_session(self) -> SessionKey:
        if self._session is None or self._session.expired:
            package = parse_address(package_of(self._context))
            self._session = await SessionKey.create(self._signer, package, ttl_min=_SESSION_MIN)
        return self._session

    async def _node_id(self) -> str | None:
        if self._node is None:
            return None
        found = await self._ledger.nodes.find(self._context.registry, self._node)
        if found is None:
            raise NotFound(f"no node called {self._node} is registered", reason="no-node", field="node")
        return found.address


def split_documents(manifests: Iterable[Any]) -> list[Manifest]:
    """Secrets out of YAML documents, `List` objects taken apart; others are returned as they are.

    Raises:
        InvalidInput: `not-a-manifest`.
    """
    found: list[Manifest] = []
    for document in manifests:
        if document is None:
            continue
        if not isinstance(document, dict) or "kind" not in document:
            raise InvalidInput("expected Kubernetes manifests", reason="not-a-manifest")
        items = document.get("items") if str(document["kind"]).endswith("List") else None
        found += split_documents(items) if isinstance(items, list) else [msgspec.to_builtins(document)]
    return found
