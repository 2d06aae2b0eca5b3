"""What Walrus takes, and what we send: refused here, before the bytes travel."""

import re
from dataclasses import dataclass
from typing import Final

from daas.common.errors import InvalidInput

#: The network stores for at most 53 epochs ahead: about two years of mainnet's 14 days each.
MAX_EPOCHS: Final = 53
#: A quilt has as many columns as secondary slivers, less one for its index (1000 shards, version 1).
MAX_QUILT_PATCHES: Final = 666
#: An identifier is stored with a 16-bit length; ours are short, and stay far from it.
MAX_IDENTIFIER_BYTES: Final = 1024
MEBIBYTE: Final = 1024 * 1024
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one deployment.

    Attributes:
        upload_bytes: body of one upload; public publishers take 10 MiB, one's own what it is configured for.
        read_bytes: what is read of one answer.
        timeout_s: one request, from the first byte sent to the last received; a publisher certifies on the ledger
            before it answers, which takes tens of seconds.
        attempts: requests for one upload or read, over all endpoints.
    """

    upload_bytes: int = 10 * MEBIBYTE
    read_bytes: int = 64 * MEBIBYTE
    timeout_s: float = 120.0
    attempts: int = 6

    def check_upload(self, size: int) -> None:
        """Refuses what no publisher of this deployment would take.

        Raises:
            InvalidInput: `walrus-size`.
        """
        if size > self.upload_bytes:
            raise InvalidInput(
                f"an upload of {size} bytes; at most {self.upload_bytes} are sent", reason="walrus-size", field="data"
            )


def check_epochs(epochs: int) -> None:
    """Refuses a lifetime that the network does not sell.

    Raises:
        InvalidInput: `walrus-epochs`.
    """
    if not 1 <= epochs <= MAX_EPOCHS:
        raise InvalidInput(f"{epochs} epochs; expected 1 to {MAX_EPOCHS}", reason="walrus-epochs", field="epochs")


def check_identifiers(identifiers: list[str]) -> None:
    """Refuses names that a quilt can't hold or a multipart form can't carry.

    Raises:
        InvalidInput: `walrus-quilt` or `walrus-identifier`.
    """
    if not 1 <= len(identifiers) <= MAX_QUILT_PATCHES:
        raise InvalidInput(
            f"a quilt of {len(identifiers)} patches; expected 1 to {MAX_QUILT_PATCHES}", reason="walrus-quilt"
        )
    if len(set(identifiers)) != len(identifiers):
        raise InvalidInput("two patches of a quilt have one identifier", reason="walrus-quilt", field="identifier")
    for identifier in identifiers:
        if len(identifier) > MAX_IDENTIFIER_BYTES or not _IDENTIFIER.fullmatch(identifier):
            raise InvalidInput(
                f"identifier {identifier[:64]!r}: expected letters, digits, dots, hyphens and underscores, the first "
                f"one a letter or digit, at most {MAX_IDENTIFIER_BYTES}",
                reason="walrus-identifier",
                field="identifier",
            )
