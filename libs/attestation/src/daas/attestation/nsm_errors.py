"""What can go wrong between an enclave and its Nitro Security Module.

DaasError
└── NsmError
    ├── NsmUnavailable     no device or socket there, it is no NSM, it hung up or did not answer in time
    ├── NsmProtocolError   it answered something that is not a response to our request
    └── NsmRefused         it answered with an error code (`code`)
"""

from enum import StrEnum

from daas.common.errors import DaasError


class NsmErrorCode(StrEnum):
    """Error codes as the NSM spells them (aws-nitro-enclaves-nsm-api src/api/mod.rs)."""

    SUCCESS = "Success"
    INVALID_ARGUMENT = "InvalidArgument"
    INVALID_INDEX = "InvalidIndex"
    INVALID_RESPONSE = "InvalidResponse"
    READ_ONLY_INDEX = "ReadOnlyIndex"
    INVALID_OPERATION = "InvalidOperation"
    BUFFER_TOO_SMALL = "BufferTooSmall"
    INPUT_TOO_LARGE = "InputTooLarge"
    INTERNAL_ERROR = "InternalError"


_REASON_BY_CODE = {code: "nsm-" + code.name.lower().replace("_", "-") for code in NsmErrorCode}
_CODE_BY_REASON = {reason: code for code, reason in _REASON_BY_CODE.items()}


class NsmError(DaasError):
    """Base of the errors of the NSM client."""


class NsmUnavailable(NsmError):
    """The NSM can't be reached; the connection, if there was one, is of no further use."""

    http_status = 503


class NsmProtocolError(NsmError):
    """The NSM's answer is not a response to the request."""

    http_status = 502

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="nsm-response-malformed")


class NsmRefused(NsmError):
    """The NSM answered with an error code."""

    http_status = 400

    def __init__(self, message: str, *, code: NsmErrorCode) -> None:
        super().__init__(message, reason=_REASON_BY_CODE[code])

    @property
    def code(self) -> NsmErrorCode:
        """The NSM's own code."""
        return _CODE_BY_REASON[self.reason]
