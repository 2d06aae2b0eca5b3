"""The bus: facts published once, consumed by durables, read in order; nothing dropped silently or retried for ever.

FastStream's broker holds the connection, parses, and carries acknowledgements; this package adds what a service must
not have to think about: the envelope, deduplication, bounded retries, delayed redelivery, dead letters, consumers that
are deleted behind our back, gapless reading. Services import it and never the NATS client.
"""

from daas.common.bus.connection import Bus
from daas.common.bus.message import Event, StoredMessage
from daas.common.settings import BusSettings

__all__ = ["Bus", "BusSettings", "Event", "StoredMessage"]
