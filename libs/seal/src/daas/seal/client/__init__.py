"""Clients of key servers: `SealClient` for asyncio, `SyncSealClient` for threads."""

from daas.seal.client.client import SealClient
from daas.seal.client.settings import ClientSettings, KeyServer
from daas.seal.client.sync import SyncSealClient

__all__ = ["ClientSettings", "KeyServer", "SealClient", "SyncSealClient"]
