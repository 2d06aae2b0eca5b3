"""One simulated enclave's Nitro Security Module: answers the bytes of a request with the bytes of a response.

Follows aws-nitro-enclaves-nsm-api src/api/mod.rs and the quirks of the real module: only locked registers are in a
document, a leaf serves for hours, the payload map has indefinite length, unset optional fields are null.
"""

import os
import secrets
from collections.abc import Callable

from daas.attestation import cbor
from daas.attestation.document import NONCE_BYTES_MAX, PCR_COUNT_MAX, PUBLIC_KEY_BYTES_MAX, USER_DATA_BYTES_MAX
from daas.attestation.nsm_errors import NsmErrorCode
from daas.attestation.nsm_transport import REQUEST_BYTES_MAX
from daas.attestation.policy import Measurement
from daas.devstack.nsm.authority import LEAF_VALIDITY_MS, DevelopmentAuthority
from daas.devstack.nsm.certificates import Issuer
from daas.devstack.nsm.documents import encode_payload, sign_document
from daas.devstack.nsm.pcrs import PcrBank

RANDOM_BYTES = 256
# Genuine documents were seen up to 8,523 s after their leaf's start: a fresh document may have half an hour left.
LEAF_REUSE_MS = LEAF_VALIDITY_MS - 30 * 60_000

_Arguments = dict[int | str, cbor.Value]


class _Refusal(Exception):
    def __init__(self, code: NsmErrorCode) -> None:
        super().__init__(code)
        self.code = code


class SoftwareNsm:
    """The NSM of one enclave, from its boot on.

    Args:
        authority: issues the leaves.
        measurement: PCR0, 1 and 2, or None for debug mode.
        clock_ms: the hypervisor's clock, milliseconds since the epoch.
        indefinite_payload: False writes the payload map as the NSM did until mid-2025.
    """

    def __init__(
        self,
        authority: DevelopmentAuthority,
        measurement: Measurement | None,
        clock_ms: Callable[[], int],
        *,
        indefinite_payload: bool = True,
    ) -> None:
        self.module_id = f"{authority.instance_id}-enc{secrets.token_hex(8)}"
        self.pcrs = PcrBank(measurement, authority.instance_id)
        self._authority = authority
        self._clock_ms = clock_ms
        self._indefinite_payload = indefinite_payload
        self._leaf: tuple[Issuer, tuple[bytes, ...], int] | None = None
        self._operations: dict[str, Callable[[_Arguments], object]] = {
            "DescribeNSM": self._describe,
            "DescribePCR": self._describe_pcr,
            "ExtendPCR": self._extend_pcr,
            "LockPCR": self._lock_pcr,
            "LockPCRs": self._lock_pcrs,
            "Attestation": self._attestation,
            "GetRandom": self._get_random,
        }

    def process(self, request: bytes) -> bytes:
        """Answer one request; whatever the bytes, the answer is a response."""
        try:
            return cbor.dumps(self._answer(request))
        except _Refusal as refusal:
            return error_response(refusal.code)

    def _answer(self, request: bytes) -> object:
        if len(request) > REQUEST_BYTES_MAX:
            raise _Refusal(NsmErrorCode.INPUT_TOO_LARGE)
        try:
            decoded = cbor.loads(request)
        except cbor.CborError:
            raise _Refusal(NsmErrorCode.INVALID_ARGUMENT) from None
        name: cbor.Value = decoded
        arguments: cbor.Value = {}
        if isinstance(decoded, dict) and len(decoded) == 1:
            [(name, arguments)] = decoded.items()
        if not isinstance(name, str) or name not in self._operations:
            raise _Refusal(NsmErrorCode.INVALID_OPERATION)
        if not isinstance(arguments, dict):
            raise _Refusal(NsmErrorCode.INVALID_ARGUMENT)
        fields = self._operations[name](arguments)
        return name if fields is None else {name: fields}

    def _describe(self, _: _Arguments) -> object:
        return {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": self.module_id,
            "max_pcrs": PCR_COUNT_MAX,
            "locked_pcrs": list(self.pcrs.locked()),
            "digest": "SHA384",
        }

    def _describe_pcr(self, arguments: _Arguments) -> object:
        index = _index(arguments)
        return {"lock": self.pcrs.is_locked(index), "data": self.pcrs.value(index)}

    def _extend_pcr(self, arguments: _Arguments) -> object:
        index = _index(arguments)
        data = arguments.get("data")
        if not isinstance(data, bytes):
            raise _Refusal(NsmErrorCode.INVALID_ARGUMENT)
        self._require_unlocked(index)
        return {"data": self.pcrs.extend(index, data)}

    def _lock_pcr(self, arguments: _Arguments) -> None:
        index = _index(arguments)
        self._require_unlocked(index)
        self.pcrs.lock(index)

    def _lock_pcrs(self, arguments: _Arguments) -> None:
        count = arguments.get("range")
        if not isinstance(count, int):
            raise _Refusal(NsmErrorCode.INVALID_ARGUMENT)
        if not 0 <= count <= PCR_COUNT_MAX:
            raise _Refusal(NsmErrorCode.INVALID_INDEX)
        for index in range(count):
            self.pcrs.lock(index)

    def _attestation(self, arguments: _Arguments) -> object:
        public_key = _optional_bytes(arguments, "public_key", PUBLIC_KEY_BYTES_MAX)
        user_data = _optional_bytes(arguments, "user_data", USER_DATA_BYTES_MAX)
        nonce = _optional_bytes(arguments, "nonce", NONCE_BYTES_MAX)
        now_ms = self._clock_ms()
        leaf, cabundle = self._current_leaf(now_ms)
        fields: list[tuple[str, object]] = [
            ("module_id", self.module_id),
            ("digest", "SHA384"),
            ("timestamp", now_ms),
            ("pcrs", self.pcrs.locked()),
            ("certificate", leaf.der),
            ("cabundle", cabundle),
            ("public_key", public_key),
            ("user_data", user_data),
            ("nonce", nonce),
        ]
        payload = encode_payload(fields, indefinite=self._indefinite_payload)
        return {"document": sign_document(leaf.key, payload)}

    def _get_random(self, _: _Arguments) -> object:
        return {"random": os.urandom(RANDOM_BYTES)}

    def _current_leaf(self, now_ms: int) -> tuple[Issuer, tuple[bytes, ...]]:
        # The bundle is kept with its leaf: the authority may have replaced the issuers since.
        if self._leaf is None or now_ms >= self._leaf[2]:
            cabundle = self._authority.cabundle(now_ms)
            leaf = self._authority.issue_leaf(self.module_id, now_ms)
            self._leaf = (leaf, cabundle, now_ms + LEAF_REUSE_MS)
        return self._leaf[0], self._leaf[1]

    def _require_unlocked(self, index: int) -> None:
        if self.pcrs.is_locked(index):
            raise _Refusal(NsmErrorCode.READ_ONLY_INDEX)


def error_response(code: NsmErrorCode) -> bytes:
    """The response that carries an error code."""
    return cbor.dumps({"Error": code.value})


def _index(arguments: _Arguments) -> int:
    index = arguments.get("index")
    if not isinstance(index, int):
        raise _Refusal(NsmErrorCode.INVALID_ARGUMENT)
    if not 0 <= index < PCR_COUNT_MAX:
        raise _Refusal(NsmErrorCode.INVALID_INDEX)
    return index


def _optional_bytes(arguments: _Arguments, name: str, bytes_max: int) -> bytes | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) > bytes_max:
        raise _Refusal(NsmErrorCode.INVALID_ARGUMENT)
    return value
