"""A client of KMS v2 plugins over their Unix socket, as API servers are one."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from daas.common.errors import ConfigurationError, DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.kms import api_pb2 as api

SERVICE: Final = "v2.KeyManagementService"
TIMEOUT_S: Final = 3.0  # kube-apiserver's default
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
)
#: What to tell callers to do about a status; everything else may pass.
_KINDS: Final[dict[grpc.StatusCode, type[DaasError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
}

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


def socket_path(endpoint: str) -> str:
    """The path of `unix:///path` or, abstract, `unix:///@name`.

    Raises:
        ConfigurationError: `kms-endpoint`: only absolute Unix sockets are allowed, as kube-apiserver has it.
    """
    url = urlsplit(endpoint)
    if url.scheme != "unix" or url.netloc or not url.path.startswith("/") or url.query or url.fragment:
        raise ConfigurationError(f"expected unix:///PATH, not {endpoint!r}", reason="kms-endpoint", field="endpoint")
    return url.path


class KmsClient:
    """Calls one plugin; connects when first used, and again when the plugin comes back. Use as `async with`.

    Args:
        endpoint: `unix:///path`.
        timeout_s: of each call.

    All calls raise what the plugin's status means: Unavailable, InvalidInput, NotFound or Refused, reason `kms-rpc`.
    """

    def __init__(self, endpoint: str, *, timeout_s: float = TIMEOUT_S) -> None:
        path = socket_path(endpoint)
        target = f"unix-abstract:{path[2:]}" if path.startswith("/@") else f"unix:{path}"
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._methods: dict[str, Any] = {}
        for name, answer in (
            ("Status", api.StatusResponse),
            ("Encrypt", api.EncryptResponse),
            ("Decrypt", api.DecryptResponse),
        ):
            self._methods[name] = self._channel.unary_unary(
                f"/{SERVICE}/{name}", _serialize, answer.FromString
            )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close(None)

    async def status(self) -> api.StatusResponse:
        """How the plugin says it is."""
        answer: api.StatusResponse = await self._call("Status", api.StatusRequest())
        return answer

    async def encrypt(self, plaintext: bytes, uid: str) -> api.EncryptResponse:
        """Encrypts a data key; `uid` names the call in logs."""
        answer: api.EncryptResponse = await self._call("Encrypt", api.EncryptRequest(plaintext=plaintext, uid=uid))
        return answer

    async def decrypt(self, ciphertext: bytes, key_id: str, annotations: Mapping[str, bytes], uid: str) -> bytes:
        """Opens a data key."""
        request = api.DecryptRequest(ciphertext=ciphertext, key_id=key_id, annotations=annotations, uid=uid)
        answer: api.DecryptResponse = await self._call("Decrypt", request)
        return answer.plaintext

    async def _call(self, name: str, request: Message) -> Any:
        try:
            return await self._methods[name](request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            kind = _KINDS.get(code, Unavailable)
            text = f"rpc error: code = {_go_name(code)} desc = {error.details()}"
            raise kind(text, reason="kms-rpc") from None


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _go_name(code: grpc.StatusCode) -> str:
    """`DEADLINE_EXCEEDED` to `DeadlineExceeded`, as API servers print it."""
    return "".join(word.capitalize() for word in code.name.split("_"))
