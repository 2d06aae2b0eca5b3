"""The refusals of a key server: a fixed set of codes, each with one HTTP status and, but for the policy's own reason,
one sentence, so that an answer tells nothing that its code does not.

Codes and statuses: MystenLabs/seal, crates/key-server/src/errors.rs; the last three are of HTTP and ours.
"""

from typing import Final

from daas.common.errors import DaasError

_STATUS_AND_MESSAGE: Final = {
    "InvalidPTB": (403, "The transaction is not one that asks for keys"),
    "InvalidPackage": (403, "The package is unknown"),
    "NoAccess": (403, "Access denied by the policy"),
    "InvalidCertificate": (403, "The certificate's time or fields are invalid"),
    "InvalidSignature": (403, "The user's signature is invalid"),
    "InvalidSessionSignature": (403, "The session key's signature is invalid"),
    "InvalidParameter": (403, "A parameter is invalid, possibly an object that is not known yet"),
    "InvalidMVRName": (403, "The package's name is invalid or belongs to another package"),
    "InvalidSDKType": (400, "The client's type is invalid"),
    "InvalidSDKVersion": (400, "The client's version is invalid"),
    "InvalidServiceId": (400, "The service id is invalid"),
    "UnsupportedPackageId": (400, "The package is not served here"),
    "MissingRequiredHeader": (400, "A required header is missing: Client-Sdk-Version"),
    "Unsupported": (400, "Not supported by this kind of key server"),
    "DeprecatedSDKVersion": (426, "The client's version is too old"),
    "Failure": (503, "The key server can't answer now, try again"),
    "InvalidRequest": (400, "The request is no JSON of the expected form"),
    "RequestTooLarge": (413, "The request is too large"),
    "TooManyRequests": (429, "Too many requests, try again later"),
    "NotFound": (404, "No such resource"),
    "MethodNotAllowed": (405, "The method is not allowed here"),
}
CODES: Final = frozenset(_STATUS_AND_MESSAGE)
#: Characters of a policy's reason that are passed on.
_REASON_MAX: Final = 200


class Refusal(DaasError):
    """One refusal.

    Args:
        code: one of `CODES`.
        reason: for `NoAccess`, the policy's own words.
    """

    def __init__(self, code: str, reason: str = "") -> None:
        status, message = _STATUS_AND_MESSAGE[code]
        if reason:
            message += ": " + "".join(letter if letter.isprintable() else " " for letter in reason[:_REASON_MAX])
        super().__init__(message, reason=code)
        self.code = code
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt from its code."""
        return type(self), (self.code,)
