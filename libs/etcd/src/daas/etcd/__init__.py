"""An asyncio etcd v3 client on generated messages: failover, deadlines, transactions, leases, watches that resume."""

from daas.etcd.channels import Credentials, Tls
from daas.etcd.client import EtcdClient, Status
from daas.etcd.errors import Compacted
from daas.etcd.model import (
    MAX_TXN_OPERATIONS,
    MAX_VALUE_BYTES,
    Change,
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Page,
    Put,
    Relation,
    Snapshot,
    Target,
    TxnResult,
    WatchEvent,
)

__all__ = [
    "MAX_TXN_OPERATIONS",
    "MAX_VALUE_BYTES",
    "Change",
    "Compacted",
    "Compare",
    "Credentials",
    "Delete",
    "EtcdClient",
    "Get",
    "KeyValue",
    "Operation",
    "Page",
    "Put",
    "Relation",
    "Snapshot",
    "Status",
    "Target",
    "Tls",
    "TxnResult",
    "WatchEvent",
]
