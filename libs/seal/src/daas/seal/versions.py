"""Versions that clients and key servers tell each other in headers, and how they compare."""

import re
from typing import Final

from daas.common.errors import InvalidInput

#: Version of MystenLabs/seal's key server whose protocol this library speaks: other implementations compare it.
PROTOCOL_VERSION: Final = "0.6.10"
#: Version of this library, as in its pyproject.toml: where sources are copied, no metadata is installed.
LIBRARY_VERSION: Final = "0.1.0"
#: Oldest key servers that answer in today's form.
KEY_SERVER_MIN: Final = (0, 4, 1)
#: Oldest clients by `Client-Sdk-Type`; other types are taken as they come.
CLIENT_MIN: Final = {"typescript": (0, 4, 5), "rust": (0, 0, 0), "python": (0, 0, 0), "aggregator": (0, 6, 2)}
#: An aggregator asks more of TypeScript clients, and knows no other types.
AGGREGATOR_CLIENT_MIN: Final = {**CLIENT_MIN, "typescript": (0, 10, 0)}

_SEMANTIC: Final = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:-[0-9A-Za-z.-]{1,64})?(?:\+[0-9A-Za-z.-]{1,64})?", re.ASCII
)


def parse_version(text: str) -> tuple[int, int, int]:
    """Major, minor, patch of a semantic version.

    Raises:
        InvalidInput: `version`.
    """
    match = _SEMANTIC.fullmatch(text)
    if match is None:
        raise InvalidInput("expected a semantic version", reason="version")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch
