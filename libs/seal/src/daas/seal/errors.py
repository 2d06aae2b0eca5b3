"""What can go wrong with Seal objects, key servers and sessions; a part of the tree in daas.common.errors.

DaasError
├── DecodeError
│   ├── MalformedObject       bytes that are no EncryptedObject, or one that breaks a rule of the format
│   ├── MalformedPoint        bytes that are no point of the right group, or the identity
│   └── MalformedAnswer       a key server's answer that is not what the protocol says
├── Refused
│   ├── DecryptionFailed      the keys do not open this object, or its maker cheated
│   ├── InvalidSignature      a user, session or proof-of-possession signature does not hold
│   ├── SessionExpired        the session key's time is over
│   ├── NotEnoughKeys         fewer key servers than the threshold gave a key
│   └── KeyServerRefused      a key server said no; `reason` is its own code
└── Unavailable
    ├── KeyServerUnavailable  a key server is away, slow or overloaded
    └── ThresholdUnreachable  as NotEnoughKeys, but trying again may help

No message contains a key, a share, a plaintext or a full identity.
"""

from collections.abc import Sequence

from daas.common.errors import DaasError, DecodeError, Refused, Unavailable


class MalformedObject(DecodeError):
    """Bytes that are no EncryptedObject, or one that breaks a rule of the format."""


class MalformedPoint(DecodeError):
    """Bytes that are no point of the right group, or the identity."""


class MalformedAnswer(DecodeError):
    """A key server's answer that is not what the protocol says."""


class DecryptionFailed(Refused):
    """The keys do not open this object, or whoever made it cheated."""


class InvalidSignature(Refused):
    """A user, session or proof-of-possession signature does not hold."""


class SessionExpired(Refused):
    """The session key's time is over: make a new one."""


class KeyServerRefused(Refused):
    """A key server said no. `code` is its own word (`NoAccess`, `InvalidPTB`, ...)."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, reason=_kebab(code))
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt from its message and code."""
        return _rebuild_refusal, (self.message, self.code)


class KeyServerUnavailable(Unavailable):
    """A key server is away, slow or overloaded: the same request may succeed later."""


class NotEnoughKeys(Refused):
    """Fewer key servers than the threshold gave a key, and trying again won't help."""

    def __init__(self, message: str, *, reason: str, failures: Sequence[DaasError] = ()) -> None:
        super().__init__(message, reason=reason)
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with the failures of the single servers."""
        return _rebuild_shortage, (type(self), self.message, self.reason, self.failures)


class ThresholdUnreachable(Unavailable):
    """Fewer key servers than the threshold gave a key, some for reasons that pass."""

    def __init__(self, message: str, *, reason: str, failures: Sequence[DaasError] = ()) -> None:
        super().__init__(message, reason=reason)
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuilt with the failures of the single servers."""
        return _rebuild_shortage, (type(self), self.message, self.reason, self.failures)


def _rebuild_refusal(message: str, code: str) -> KeyServerRefused:
    return KeyServerRefused(message, code=code)


def _rebuild_shortage(
    cls: type[NotEnoughKeys] | type[ThresholdUnreachable], message: str, reason: str, failures: Sequence[DaasError]
) -> DaasError:
    return cls(message, reason=reason, failures=failures)


def _kebab(code: str) -> str:
    """`NoAccess` to `no-access`, `InvalidPTB` to `invalid-ptb`."""
    words = ""
    for index, letter in enumerate(code):
        if letter.isupper() and index and not code[index - 1].isupper():
            words += "-"
        words += letter.lower()
    return words
