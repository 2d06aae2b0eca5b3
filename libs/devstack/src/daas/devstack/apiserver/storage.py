"""Objects in memory with one resource version counter, a retained window of changes, and a sqlite append log.

Every change is one row of the log, written before it is seen by anyone. Compaction keeps what etcd keeps: of the rows
at or below the compacted version only the newest of each living object. So a restart continues the versions, and a
watch from a version inside the window misses nothing.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from daas.common.errors import DaasError, Unavailable
from daas.devstack.apiserver.errors import ApiError, expired
from daas.devstack.apiserver.resources import BY_KEY, Resource, dig

# 30,000 changes are several minutes of the fastest churn this server can make; 48 MiB keep it below its memory budget.
HISTORY_EVENTS_MAX = 30_000
HISTORY_BYTES_MAX = 48 << 20

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


class Locked(Unavailable):
    """A stored value can't be read yet; `Storage.unlock` tries again."""


class Unwritable(Unavailable):
    """Nothing of this resource can be written now."""


class StorageTransform(Protocol):
    """What stands between memory and disk, as kube-apiserver's value transformers (KMS v2) do. `key` authenticates."""

    def to_storage(self, resource: str, key: str, body: bytes) -> bytes:
        """The bytes to write. Raises Unwritable."""
        ...

    def from_storage(self, resource: str, key: str, body: bytes) -> bytes:
        """What to_storage was given. Raises Locked where that can't be had yet, DaasError where it can't be had."""
        ...

    def is_stale(self, resource: str, body: bytes) -> bool:
        """Whether to_storage would write that today in another way: an unchanged object is written again then."""
        ...


class IdentityTransform:
    """Writes bodies as they are: the `identity` provider of an EncryptionConfiguration."""

    def to_storage(self, _resource: str, _key: str, body: bytes) -> bytes:
        """The body."""
        return body

    def from_storage(self, _resource: str, _key: str, body: bytes) -> bytes:
        """The body."""
        return body

    def is_stale(self, _resource: str, _body: bytes) -> bool:
        """Never."""
        return False


Key = tuple[str, str]  # namespace and name


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one object: `raw` is its JSON without kind and apiVersion; `labels` and `fields` for selectors."""

    namespace: str
    name: str
    version: int
    raw: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    def object(self) -> dict[str, Any]:
        """A fresh copy of the object, without kind and apiVersion."""
        value: dict[str, Any] = orjson.loads(self.raw)
        return value


@dataclass(frozen=True, slots=True)
class Event:
    """One change: for DELETED, `record` is the last state with the version of the deletion."""

    version: int
    resource: str
    type: str
    record: Record
    previous: Record | None


Subscriber = Callable[[Event], None]
#: One row of the log: version, resource, namespace, name, type of change, stored body.
Row = tuple[int, str, str, str, str, bytes]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  version INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  type TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
"""


class Storage:
    """The object store. Not thread-safe: one event loop owns it.

    Args:
        path: sqlite file; None keeps everything in memory.
        transform: between memory and disk.
        history_events_max: how many changes a watch can reach back.
    """

    def __init__(
        self,
        path: Path | None,
        transform: StorageTransform,
        *,
        history_events_max: int = HISTORY_EVENTS_MAX,
    ) -> None:
        self._transform = transform
        self._history_events_max = history_events_max
        self._objects: dict[str, dict[Key, Record]] = {key: {} for key in BY_KEY}
        self._sorted: dict[str, list[Key] | None] = dict.fromkeys(BY_KEY)
        self._history: deque[Event] = deque()
        self._history_bytes = 0
        self._subscribers: dict[str, list[Subscriber]] = {key: [] for key in BY_KEY}
        #: Rows that wait for a key, with all later ones of their resource; and objects whose newest row can't be read.
        self._locked: dict[str, list[Row]] = {}
        self._unreadable: dict[str, dict[Key, str]] = {key: {} for key in BY_KEY}
        self.version = 1
        self.compacted = 0
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        # OFF survives a killed process, which is what a development server promises; not a killed machine.
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._load()

    def _load(self) -> None:
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        self.compacted = meta.get("compacted", 0)
        for row in self._db.execute("SELECT * FROM log ORDER BY version"):
            self.version = row[0]
            if row[1] in self._objects:
                self._load_row(row)
        self.version = max(self.version, meta.get("version", 1))

    def _load_row(self, row: Row) -> None:
        version, resource, namespace, name, kind, body = row
        if resource in self._locked:
            self._locked[resource].append(row)
            return
        where = (namespace, name)
        try:
            plain = self._transform.from_storage(resource, f"{namespace}/{name}", body)
        except Locked:
            self._locked[resource] = [row]
            return
        except DaasError as error:
            # What was overwritten or deleted since is not missed, but watches can't reach back behind it.
            self._objects[resource].pop(where, None)
            self._sorted[resource] = None
            self._unreadable[resource].pop(where, None)
            if kind != DELETED:
                self._unreadable[resource][where] = error.message
            self.compacted = max(self.compacted, version)
            return
        self._unreadable[resource].pop(where, None)
        record = self._record(BY_KEY[resource], namespace, name, version, plain)
        self._apply(resource, kind, record, remember=version > self.compacted)

    def unlock(self) -> None:
        """Read what was locked, as far as the transform can now."""
        if not self._locked:
            return
        waiting, self._locked = self._locked, {}
        for rows in waiting.values():
            for row in rows:
                self._load_row(row)
        self._history = deque(sorted(self._history, key=lambda event: event.version))

    @property
    def locked(self) -> tuple[str, ...]:
        """Resources that can't be read yet."""
        return tuple(self._locked)

    def is_stale(self, resource: Resource, record: Record) -> bool:
        """Whether an unchanged object should be written again, since its key is not the present one."""
        key = BY_KEY[resource.key].key
        row = self._db.execute("SELECT body FROM log WHERE version = ?", (record.version,)).fetchone()
        return row is not None and self._transform.is_stale(key, row[0])

    def _check_readable(self, key: str, namespace: str | None, name: str | None = None) -> None:
        """Raises ApiError 500 where something that is asked for can't be read (yet)."""
        if self._locked and key in self._locked:
            raise _internal("got unexpected nil transformer")
        for where, why in self._unreadable[key].items():
            if namespace in (None, where[0]) and name in (None, where[1]):
                path = f"/registry/{key.partition('.')[0]}/{where[0]}/{where[1]}"
                raise _internal(f'unable to transform key "{path}": {why}')

    def close(self) -> None:
        """Close the log; the store cannot be used afterwards."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (self.version,))
        self._db.close()

    # Reading ---------------------------------------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str, name: str) -> Record | None:
        """The current version of an object. Raises ApiError 500 if it can't be read."""
        self._check_readable(resource.key, namespace, name)
        return self._objects[resource.key].get((namespace, name))

    def count(self, resource: Resource) -> int:
        """How many objects of that resource there are."""
        return len(self._objects[resource.key])

    def _keys(self, key: str) -> list[Key]:
        keys = self._sorted[key]
        if keys is None:
            keys = self._sorted[key] = sorted(self._objects[key])
        return keys

    def records(self, resource: Resource, namespace: str | None, at: int | None = None) -> Iterator[Record]:
        """Objects in order of (namespace, name), of one namespace or of all (None), as of version `at` or now.

        Raises ApiError 410 if `at` has been compacted, 500 if one of them can't be read.
        """
        self._check_readable(resource.key, namespace)
        objects: Mapping[Key, Record] = self._objects[resource.key]
        if at is not None and at != self.version:
            objects = self._as_of(resource.key, at)
            keys = sorted(objects)
        else:
            keys = self._keys(resource.key)
        if namespace is None:
            return (objects[key] for key in keys)
        return (objects[key] for key in keys if key[0] == namespace)

    def _as_of(self, key: str, at: int) -> dict[Key, Record]:
        self.check_window(at)
        objects = dict(self._objects[key])
        for event in reversed(self._history):
            if event.version <= at:
                break
            if event.resource != key:
                continue
            where = (event.record.namespace, event.record.name)
            if event.previous is None:
                objects.pop(where, None)
            else:
                objects[where] = event.previous
        return objects

    def check_window(self, since: int) -> None:
        """Raises ApiError 410 if changes after `since` are no longer all retained."""
        if since < self.compacted:
            raise expired(f"too old resource version: {since} ({self.compacted})")

    def since(self, resource: Resource, version: int) -> list[Event]:
        """All changes of the resource after `version`, oldest first. Raises ApiError 410 if compacted."""
        self.check_window(version)
        self._check_readable(resource.key, None)
        found: list[Event] = []
        for event in reversed(self._history):
            if event.version <= version:
                break
            if event.resource == resource.key:
                found.append(event)
        found.reverse()
        return found

    def subscribe(self, resource: Resource, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with each change from now on; returns what ends it."""
        subscribers = self._subscribers[resource.key]
        subscribers.append(subscriber)
        return lambda: subscribers.remove(subscriber)

    # Writing ---------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, obj: dict[str, Any]) -> Record:
        """Store a new object (without kind and apiVersion); its resourceVersion is set. The name must be free."""
        return self._write(resource, ADDED, obj)

    def update(self, resource: Resource, obj: dict[str, Any]) -> Record:
        """Store a new version of an object that exists."""
        return self._write(resource, MODIFIED, obj)

    def delete(self, resource: Resource, obj: dict[str, Any]) -> Record:
        """Remove an object; `obj` is its last state."""
        return self._write(resource, DELETED, obj)

    def _record(self, resource: Resource, namespace: str, name: str, version: int, raw: bytes) -> Record:
        obj = orjson.loads(raw)
        return self._record_of(resource, (namespace, name), version, raw, obj)

    @staticmethod
    def _record_of(resource: Resource, where: Key, version: int, raw: bytes, obj: dict[str, Any]) -> Record:
        fields = {label: dig(obj, path) for label, path in resource.selectable.items()}
        return Record(*where, version, raw, obj["metadata"].get("labels") or {}, fields)

    def _write(self, resource: Resource, kind: str, obj: dict[str, Any]) -> Record:
        stored = BY_KEY[resource.key]
        meta = obj["metadata"]
        version = self.version + 1
        meta["resourceVersion"] = str(version)
        namespace, name = meta.get("namespace", ""), meta["name"]
        raw = orjson.dumps(obj)
        record = self._record_of(stored, (namespace, name), version, raw, obj)
        try:
            body = self._transform.to_storage(stored.key, f"{namespace}/{name}", raw)
        except Unwritable as error:
            raise _internal(error.message) from None
        self._db.execute("INSERT INTO log VALUES (?,?,?,?,?,?)", (version, stored.key, namespace, name, kind, body))
        self.version = version
        event = self._apply(stored.key, kind, record, remember=True)
        for subscriber in tuple(self._subscribers[stored.key]):
            subscriber(event)
        self._compact()
        return record

    def _apply(self, key: str, kind: str, record: Record, *, remember: bool) -> Event:
        objects = self._objects[key]
        where = (record.namespace, record.name)
        previous = objects.get(where)
        if kind == DELETED:
            objects.pop(where, None)
        else:
            objects[where] = record
        if (previous is None) is not (kind == DELETED):
            self._sorted[key] = None
        event = Event(record.version, key, kind, record, previous)
        if remember:
            self._history.append(event)
            self._history_bytes += len(record.raw)
        return event

    def _compact(self) -> None:
        if len(self._history) <= self._history_events_max and self._history_bytes <= HISTORY_BYTES_MAX:
            return
        # A tenth at a time: one transaction instead of one per write.
        self.compact(len(self._history) // 10 + 1)

    def compact(self, count: int) -> None:
        """Forget the oldest `count` changes: watches from before them answer 410."""
        useless: list[tuple[int]] = []
        for _ in range(min(count, len(self._history))):
            event = self._history.popleft()
            self._history_bytes -= len(event.record.raw)
            self.compacted = event.version
            if event.previous is not None:
                useless.append((event.previous.version,))
            if event.type == DELETED:
                useless.append((event.version,))
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM log WHERE version = ?", useless)
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (self.compacted,))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?)", (self.version,))
        self._db.execute("COMMIT")


def _internal(text: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {text}")
