"""Which Secrets are sealed, asked of the API server: their metadata and nothing of their content."""

import asyncio
from typing import Final
from urllib.parse import quote

import msgspec

from daas.common.errors import DecodeError
from daas.kube import KubeClient, KubeNotFound
from daas.kube.client import METADATA
from daas.secrets.manifest import ENVELOPE

#: The API server gives a webhook a few seconds in all.
_TIMEOUT_S: Final = 2.0


class _Meta(msgspec.Struct):
    annotations: dict[str, str] = {}


class _Partial(msgspec.Struct):
    metadata: _Meta


class ApiServerSecrets:
    """Asks for each Secret that a pod names, when it is admitted: nothing is cached that could be old.

    Args:
        client: the API server.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def sealed(self, namespace: str, names: set[str]) -> set[str]:
        """Those of the names that are sealed; Secrets that do not exist are not.

        Raises:
            Unavailable: the API server is away. Refused: it does not let us look.
        """
        ordered = sorted(names)
        found = await asyncio.gather(*(self._is_sealed(namespace, name) for name in ordered))
        return {name for name, sealed in zip(ordered, found, strict=True) if sealed}

    async def _is_sealed(self, namespace: str, name: str) -> bool:
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}"
        try:
            body = await self._client.request("GET", path, accept=METADATA, timeout_s=_TIMEOUT_S)
        except KubeNotFound:
            return False
        try:
            return ENVELOPE in msgspec.json.decode(body, type=_Partial).metadata.annotations
        except msgspec.MsgspecError:
            raise DecodeError(f"the metadata of Secret {namespace}/{name}", reason="kube-malformed") from None
