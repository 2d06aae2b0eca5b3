"""What a message of the cluster log counts as: its bytes, or nothing where its envelope has no place there.

Everyone who folds or archives the log reads it through here, so that all of them fold the same bytes: a message that
nobody may have published, or that is too large, counts as an entry of no bytes. It keeps its number, and its emptiness
is under the log root like everything else.
"""

from daas.common import envelope
from daas.common.bus.message import StoredMessage
from daas.common.errors import InvalidInput, Refused
from daas.common.subjects import LOG_CLUSTER


def entry_of(stored: StoredMessage) -> tuple[bytes, InvalidInput | Refused | None]:
    """The bytes to fold, and why they are none where the envelope was refused."""
    try:
        envelope.check(LOG_CLUSTER, stored.headers, len(stored.data))
    except (InvalidInput, Refused) as error:
        return b"", error
    return stored.data, None
