"""Seal policies by name: what the settings pin, and what else the API server names, held to the ledger."""

import json
from typing import Final
from urllib.parse import quote

from daas.common.errors import NotFound, Refused
from daas.kube.client import KubeClient
from daas.ledger import Ledger
from daas.seal import parse_address
from daas.secrets import KeyServers, SealParameters

#: The ConfigMap that `daas secret policy create` writes names to.
_NAMES: Final = ("kube-system", "seal-policies")


class PolicyBook:
    """Finds the parameters to seal under.

    Nothing is remembered: what is sealed under a generation that has just been retired could never be opened.

    Args:
        ledger: the ledger.
        cluster, registry: whose policies count.
        pinned: object ids by name, which nobody overrules.
        key_servers: whom to seal to.
        client: an API server that names further policies.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        cluster: str,
        registry: str,
        pinned: dict[str, str],
        key_servers: KeyServers,
        client: KubeClient | None,
    ) -> None:
        self._ledger, self._cluster, self._registry = ledger, cluster, registry
        self._pinned, self._key_servers, self._client = pinned, key_servers, client

    async def parameters(self, name: str) -> SealParameters:
        """What sealing under a policy needs, as the ledger has it now.

        Raises:
            NotFound: `no-policy`. Refused: `foreign-policy`. Unavailable: the ledger or the API server is away.
        """
        policy = await self._ledger.policies.policy(self._pinned.get(name) or await self._published(name))
        if policy.registry != self._registry:
            raise Refused(f"policy {name} belongs to another cluster", reason="foreign-policy", field="policy")
        return SealParameters(
            cluster=self._cluster,
            package=self._ledger.required_package(),
            policy_name=name,
            policy=policy.address,
            generation=policy.generation,
            usage_limit=policy.rules.usage_limit,
            key_servers=self._key_servers,
            simulated=policy.simulated,
        )

    async def generation(self, policy: str) -> int | None:
        """The current generation of a policy of this cluster; None where there is no such policy."""
        try:
            found = await self._ledger.policies.policy(policy)
        except NotFound:
            return None
        return found.generation if found.registry == self._registry else None

    async def _published(self, name: str) -> str:
        missing = NotFound(f"no Seal policy is called {name}", reason="no-policy", field="policy")
        if self._client is None:
            raise missing
        path = "/api/v1/namespaces/{}/configmaps/{}".format(*(quote(part, safe="") for part in _NAMES))
        try:
            data = json.loads(await self._client.request("GET", path)).get("data") or {}
        except NotFound:
            raise missing from None
        if name not in data:
            raise missing
        return "0x" + parse_address(str(data[name])).hex()
