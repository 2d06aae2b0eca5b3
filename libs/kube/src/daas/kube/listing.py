"""Lists of any resource, page by page, as JSON-shaped objects."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from daas.kube.client import KubeClient

_PAGE: Final = 250
#: Pages that are read at most: 250,000 objects.
_PAGES_MAX: Final = 1_000


async def list_items(client: KubeClient, path: str, *, label_selector: str = "") -> AsyncIterator[dict[str, Any]]:
    """Every object of a collection; the API server leaves out apiVersion and kind.

    Args:
        client: the API server.
        path: of the collection, escaped.
        label_selector: only these.

    Raises:
        DaasError: as `KubeClient.request`; Gone where the list took so long that its version is forgotten.
    """
    query = {"limit": str(_PAGE)} | ({"labelSelector": label_selector} if label_selector else {})
    for _ in range(_PAGES_MAX):
        page = msgspec.json.decode(await client.request("GET", path, query=query))
        for item in page["items"]:
            yield item
        following = page["metadata"].get("continue")
        if not following:
            return
        query["continue"] = following
