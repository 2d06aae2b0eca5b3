"""The client of the Nitro Security Module: registers, attestation documents, entropy.

Requests and responses: aws-nitro-enclaves-nsm-api src/api/mod.rs, one CBOR value each. A request without arguments is
its name as text, others are a map of the name to a map of arguments in the order of that file.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeGuard

from daas.attestation import cbor
from daas.attestation.document import PCR_BYTES, PCR_COUNT_MAX
from daas.attestation.nsm_errors import NsmErrorCode, NsmProtocolError, NsmRefused
from daas.attestation.nsm_transport import SOCKET_TIMEOUT_S, NsmTransport, open_transport

NSM_DEVICE = Path("/dev/nsm")
# One GetRandom answers with up to 256 bytes; nobody needs more than a few seeds at once.
RANDOM_BYTES_MAX = 4096
_RANDOM_CALLS_MAX = 256

_Fields = dict[int | str, cbor.Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class NsmDescription:
    """What the NSM says about itself."""

    version: tuple[int, int, int]
    module_id: str
    max_pcrs: int
    locked_pcrs: frozenset[int]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrState:
    """One register: 48 bytes, and whether it is locked."""

    locked: bool
    data: bytes


class NsmClient:
    """Talks to one NSM. Calls are synchronous: each takes about a millisecond. Not for use by two threads at once.

    Every method raises `NsmRefused` for an error code of the NSM, `NsmUnavailable` and `NsmProtocolError` for the rest.
    """

    def __init__(self, transport: NsmTransport) -> None:
        self._transport = transport

    @classmethod
    def open(cls, path: str | Path = NSM_DEVICE, *, timeout_s: float = SOCKET_TIMEOUT_S) -> Self:
        """Open the device, or connect to the software NSM if `path` is a Unix socket.

        Args:
            path: a character device or a Unix socket.
            timeout_s: for one exchange over a socket; the device answers or fails by itself.

        Raises:
            NsmUnavailable: there is neither.
        """
        return cls(open_transport(Path(path), timeout_s=timeout_s))

    @property
    def simulated(self) -> bool:
        """True for a software NSM. Its documents verify under a development root only."""
        return self._transport.simulated

    def close(self) -> None:
        """Close the device or the connection. May be called twice."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def describe(self) -> NsmDescription:
        """Version, module id, and which registers are locked."""
        answer = self._call("DescribeNSM", None)
        locked = answer.get("locked_pcrs")
        module_id, digest = answer.get("module_id"), answer.get("digest")
        if not isinstance(module_id, str) or not isinstance(digest, str) or not isinstance(locked, list):
            raise NsmProtocolError("DescribeNSM: module_id, digest or locked_pcrs has the wrong type")
        return NsmDescription(
            version=(
                _number(answer, "version_major"),
                _number(answer, "version_minor"),
                _number(answer, "version_patch"),
            ),
            module_id=module_id,
            max_pcrs=_number(answer, "max_pcrs"),
            locked_pcrs=frozenset(_index(item) for item in locked),
            digest=digest,
        )

    def describe_pcr(self, index: int) -> PcrState:
        """The value of a register and whether it is locked."""
        answer = self._call("DescribePCR", {"index": index})
        locked = answer.get("lock")
        if not isinstance(locked, bool):
            raise NsmProtocolError("DescribePCR: lock is not a boolean")
        return PcrState(locked=locked, data=_pcr(answer))

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """Set a register to SHA384(old || data) and return the new value; `data` is not hashed before.

        Registers 0 to 15 are locked from boot on: `NsmRefused` with code READ_ONLY_INDEX.
        """
        return _pcr(self._call("ExtendPCR", {"index": index, "data": data}))

    def lock_pcr(self, index: int) -> None:
        """Make a register read-only for the life of the enclave. Only locked registers are in attestation documents.

        Locking twice is refused.
        """
        self._call("LockPCR", {"index": index})

    def lock_pcrs(self, count: int) -> None:
        """Lock the registers 0 .. count - 1."""
        self._call("LockPCRs", {"range": count})

    def attestation(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """A new attestation document over the given statements (at most 512, 512 and 1024 bytes)."""
        arguments = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        return _bytes(self._call("Attestation", arguments), "document")

    def get_random(self, count_bytes: int) -> bytes:
        """Entropy from the hypervisor, `count_bytes` (1 .. 4096) of it.

        Raises:
            ValueError: `count_bytes` out of range.
        """
        if not 1 <= count_bytes <= RANDOM_BYTES_MAX:
            raise ValueError(f"count_bytes is 1 to {RANDOM_BYTES_MAX}, got {count_bytes}")
        collected = bytearray()
        for _ in range(_RANDOM_CALLS_MAX):
            collected += _bytes(self._call("GetRandom", None), "random")
            if len(collected) >= count_bytes:
                return bytes(collected[:count_bytes])
        raise NsmProtocolError(f"GetRandom gave {len(collected)} bytes in {_RANDOM_CALLS_MAX} calls")

    def _call(
        self, operation: str, arguments: dict[str, object] | dict[str, bytes | None] | dict[str, int] | None
    ) -> _Fields:
        """One exchange; returns the fields of the response (none for the lock operations)."""
        request = cbor.dumps(operation if arguments is None else {operation: arguments})
        response = self._transport.exchange(request)
        try:
            answer = cbor.loads(response, allow_bool=True)
        except cbor.CborError as error:
            raise NsmProtocolError(f"{operation}: the response is not strict CBOR: {error.message}") from None
        if answer == operation:
            return {}
        if not isinstance(answer, dict) or len(answer) != 1:
            raise NsmProtocolError(f"{operation}: the response is neither its name nor a map of one pair")
        if "Error" in answer:
            raise _refusal(operation, answer["Error"])
        fields = answer.get(operation)
        if not isinstance(fields, dict):
            raise NsmProtocolError(f"{operation}: the response answers another request")
        return fields


def _refusal(operation: str, code: cbor.Value) -> NsmRefused | NsmProtocolError:
    if not _is_error_code(code):
        return NsmProtocolError(f"{operation}: an unknown error code")
    return NsmRefused(f"the NSM refused {operation}: {code}", code=NsmErrorCode(code))


def _is_error_code(code: cbor.Value) -> TypeGuard[str]:
    return isinstance(code, str) and code in set(NsmErrorCode)


def _bytes(answer: _Fields, name: str) -> bytes:
    value = answer.get(name)
    if not isinstance(value, bytes) or not value:
        raise NsmProtocolError(f"{name} is missing, empty or not bytes")
    return value


def _pcr(answer: _Fields) -> bytes:
    value = _bytes(answer, "data")
    if len(value) != PCR_BYTES:
        raise NsmProtocolError(f"a register of {len(value)} bytes, expected {PCR_BYTES}")
    return value


def _number(answer: _Fields, name: str) -> int:
    value = answer.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise NsmProtocolError(f"{name} is not an unsigned 16-bit integer")
    return value


def _index(value: cbor.Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < PCR_COUNT_MAX:
        raise NsmProtocolError(f"a locked register that is not 0 to {PCR_COUNT_MAX - 1}")
    return value
