"""What can go wrong with sealed Secrets; a part of the tree in daas.common.errors.

DaasError
├── InvalidInput
│   ├── MalformedSecret     a Secret that can't be sealed, or breaks a rule of its type
│   └── DecodeError
│       └── MalformedEnvelope   an envelope, an id or a value that is not what its place says
└── Refused
    ├── WrongPlace          well-made, but sealed for another cluster, namespace, Secret, key or policy
    └── NotAuthentic        a value or message was changed, or another key made it

No message contains a value, a key or a whole envelope.
"""

from daas.common.errors import DecodeError, InvalidInput, Refused


class MalformedSecret(InvalidInput):
    """A Secret that can't be sealed, or one that breaks a rule of its type."""


class MalformedEnvelope(DecodeError):
    """An envelope, an id or a sealed value that is not what its place says it is."""


class WrongPlace(Refused):
    """What is sealed belongs elsewhere: another cluster, namespace, Secret, key or policy."""


class NotAuthentic(Refused):
    """What was sealed has been changed, or another key made it."""
