"""Walrus over HTTP: permanent blobs and quilts through publishers, verified reads through aggregators, renewal."""

from daas.walrus.client import WalrusClient
from daas.walrus.errors import from_answer
from daas.walrus.limits import MAX_EPOCHS, MAX_IDENTIFIER_BYTES, MAX_QUILT_PATCHES, Limits
from daas.walrus.model import Content, Patch, QuiltPatch, StoredBlob, StoredQuilt, digest_of
from daas.walrus.renewal import Holding, Renewed, due, renew
from daas.walrus.tokens import PublisherKey

__all__ = [
    "MAX_EPOCHS",
    "MAX_IDENTIFIER_BYTES",
    "MAX_QUILT_PATCHES",
    "Content",
    "Holding",
    "Limits",
    "Patch",
    "PublisherKey",
    "QuiltPatch",
    "Renewed",
    "StoredBlob",
    "StoredQuilt",
    "WalrusClient",
    "digest_of",
    "due",
    "from_answer",
    "renew",
]
