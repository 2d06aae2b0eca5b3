"""What a development API server stored of a resource, as `etcdctl get --prefix -w json` shows it of a real one.

    python -m daas.devstack.apiserver.export STATE [secrets]

Nothing is decrypted: a copy of the state directory is all it reads.
"""

import argparse
import sqlite3
import sys
from pathlib import Path

from daas.devstack.apiserver.encryption.transform import etcd_key
from daas.devstack.apiserver.storage import DELETED
from daas.kms.restore import Item, write_copy


def export(state: Path, resource: str) -> bytes:
    """The newest stored value of each object that was not deleted."""
    rows: dict[str, bytes] = {}
    log = sqlite3.connect(f"file:{state / 'log.sqlite'}?mode=ro", uri=True)
    try:
        found = log.execute(
            "SELECT namespace, name, type, body FROM log WHERE resource = ? ORDER BY version", (resource,)
        )
        for namespace, name, kind, body in found:
            key = etcd_key(resource, f"{namespace}/{name}")
            rows.pop(key, None)
            if kind != DELETED:
                rows[key] = body
    finally:
        log.close()
    return write_copy([Item(key, body) for key, body in sorted(rows.items())])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m daas.devstack.apiserver.export", description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("resource", nargs="?", default="secrets")
    arguments = parser.parse_args()
    sys.stdout.buffer.write(export(arguments.state, arguments.resource) + b"\n")


if __name__ == "__main__":
    main()
