"""Client of an API server: requests and watches with raw bodies, and errors that say what to do about them.

The generated methods of `kubernetes` parse every answer into pydantic models (8 s for 10,000 pods, and a Binding's
Status answer fails validation although the pod is bound), and its ApiClient walks every body before it sends it. So
`kubernetes` gives us what it knows of a kubeconfig - address, credentials and their refresh, TLS - and the requests go
through a connection pool of aiohttp, bytes in and out.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from daas.common.errors import DaasError
from daas.kube.config import load_configuration
from daas.kube.errors import KubeUnavailable, decode_status, error_of

JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
#: client-go gives a request 32 s by default in controllers; lists of 500 answer in well under a second.
REQUEST_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
#: etcd's largest object is 1.5 MiB; a watch line above this is no Kubernetes object.
LINE_BYTES_MAX: Final = 8 * 1024 * 1024
#: A list of 500 pods arrives in few pieces.
READ_BYTES: Final = 2 * 1024 * 1024
USER_AGENT: Final = "k3s-daas"

Query = Mapping[str, str | int]


class KubeClient:
    """One API server, one connection pool. Safe for many tasks of one loop.

    Args:
        configuration: see `load_configuration`.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tls = RESTClientObject(configuration)
        self._base = configuration.host.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> Self:
        """A client for a kubeconfig, or for the surrounding cluster where it is None. Opens no connection yet.

        Raises:
            ConfigurationError: see `load_configuration`.
        """
        return cls(await load_configuration(kubeconfig))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._tls.close()
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> bytes:
        """One request; the body of its answer.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: absolute, with every segment already escaped.
            query: query parameters.
            body: a value of JSON builtins.
            content_type: of the body; the patch types say how the server merges it.
            accept: the form of the answer, METADATA for an object's metadata alone.
            timeout_s: for the whole exchange.

        Raises:
            DaasError: one of `daas.kube.errors`, KubeUnavailable where there was no answer.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        form = {"content_type": content_type, "accept": accept}
        async with self._exchange(method, path, timeout, query=query, body=body, **form) as response:
            return await response.read()

    async def stream(
        self, path: str, *, query: Query | None = None, read_timeout_s: float
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """The lines of a watch, in the groups they arrive in. Ends when the server ends it.

        Args:
            path: absolute, escaped.
            query: query parameters, `watch` among them.
            read_timeout_s: longest silence; choose it larger than the watch's own `timeoutSeconds`.

        Raises:
            DaasError: as `request`; KubeUnavailable when the connection is cut in the middle.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=read_timeout_s)
        rest = b""
        async with self._exchange("GET", path, timeout, query=query) as response:
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES_MAX:
                    raise KubeUnavailable(f"GET {path}: a line above {LINE_BYTES_MAX} bytes", reason="kube-line-size")
                if lines:
                    yield [line for line in lines if line]

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own time-out, with its three parts
        *,
        query: Query | None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        what = f"{method} {path}"
        headers = {"Accept": accept, "User-Agent": USER_AGENT}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = msgspec.json.encode(body)
        try:
            for setting in (await self._configuration.auth_settings()).values():
                headers[setting["key"]] = setting["value"]
            async with self._pool().request(
                method, self._base + path, params=query, data=data, headers=headers, timeout=timeout, **self._route
            ) as response:
                if response.status >= 400:
                    raise error_of(
                        response.status,
                        decode_status(await response.read()),
                        what,
                        response.headers.get("Retry-After"),
                    )
                yield response
        except DaasError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise KubeUnavailable(f"{what}: {type(error).__name__}: {error}", reason="kube-connection") from error

    @property
    def _route(self) -> dict[str, Any]:
        """What a kubeconfig may say about the way to the server: `tls-server-name`, `proxy-url`."""
        route = {
            "server_hostname": self._configuration.tls_server_name,
            "proxy": self._configuration.proxy,
            "proxy_headers": self._configuration.proxy_headers,
        }
        return {name: value for name, value in route.items() if value}

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._configuration.connection_pool_maxsize, ssl=self._tls.ssl_context
                ),
                read_bufsize=READ_BYTES,
                # Variables and ~/.netrc could send a request for 127.0.0.1 elsewhere, or with other credentials.
                trust_env=False,
            )
        return self._session
