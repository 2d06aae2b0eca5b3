"""A stand-in for a Walrus publisher and aggregator: the same HTTP API over a directory, marked simulated everywhere."""

from daas.devstack.walrus.server import WalrusServer
from daas.devstack.walrus.store import BlobStore

__all__ = ["BlobStore", "WalrusServer"]
