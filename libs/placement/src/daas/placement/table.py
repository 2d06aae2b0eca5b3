"""All nodes as columns of integers, so that one pod is weighed against all of them at once.

A node has a slot for as long as it is known. What is compared between nodes never depends on slots: ties are broken by
rank, the place of a node's name among all names.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from daas.placement.filters import parse_label_integer
from daas.placement.model import ContainerImage, Taint
from daas.placement.records import NodeRecord
from daas.placement.resources import CPU, MAX_CAPACITY, MEMORY, PODS

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Slots = npt.NDArray[np.intp]

#: Resources that always exist, by index.
CPU_COLUMN, MEMORY_COLUMN, PODS_COLUMN = 0, 1, 2
BUILT_IN = 3
#: What `room` holds of a slot: capacity, capacity less what counts for scores, what is taken (CPU and memory each),
#: and how many pods may still come. The eighth fills the line.
ROOM_WIDTH = 8
CAPACITY, LEFT, USED, PODS_LEFT = 0, 2, 4, 6
#: Sums past this are all the same to the formulas (no capacity is above 2^48), and stay far from 2^63.
_CLIP = 4 * MAX_CAPACITY
#: Dictionaries of label values grow with every new value; past this many times the nodes they are built anew.
_SLACK = 8
#: Columns of images are dropped past this many: 60 MB at 15,000 nodes.
_MAX_IMAGES = 512


def _image_size(images: tuple[ContainerImage, ...], name: str) -> int:
    """The size of an image on a node, -1 where it is not there."""
    for image in images:
        if name in (image.names or ()):
            return image.size_bytes
    return -1


def _clip(value: int) -> int:
    return min(max(value, -_CLIP), _CLIP)


_EMPTY = (1, 1, 0, 0, 0, 0, 0, 0)


def _empty_room(slots: int) -> Ints:
    return np.tile(np.array(_EMPTY, np.int64), (slots, 1))


class LabelColumn:
    """One label key over all slots: small numbers for values, 0 where a node has no such label."""

    def __init__(self, slots: int) -> None:
        self.values: npt.NDArray[np.int32] = np.zeros(slots, np.int32)
        self.ids: dict[str, int] = {}
        self._numbers: list[int] = [0]
        self._is_number: list[bool] = [False]
        self._members: dict[int, Slots] = {}
        self._wide: Slots | None = None

    def put(self, slot: int, value: str | None) -> None:
        """Sets one node's value."""
        self._members.clear()
        self._wide = None
        if value is None:
            self.values[slot] = 0
            return
        known = self.ids.get(value)
        if known is None:
            known = self.ids[value] = len(self.ids) + 1
            number = parse_label_integer(value)
            self._numbers.append(number or 0)
            self._is_number.append(number is not None)
        self.values[slot] = known

    @property
    def size(self) -> int:
        """One more than the largest number in use."""
        return len(self._numbers)

    @property
    def wide(self) -> Slots:
        """`values` as indices; another array after every change."""
        if self._wide is None:
            self._wide = self.values.astype(np.intp)
        return self._wide

    def members(self, number: int) -> Slots:
        """The slots with a value, by its number."""
        found = self._members.get(number)
        if found is None:
            found = self._members[number] = np.flatnonzero(self.values == number)
        return found

    def widen(self, more: int) -> None:
        """Makes room for more slots."""
        self.values = np.concatenate((self.values, np.zeros(more, np.int32)))
        self._wide = None

    def numbers(self, slots: Slots) -> tuple[Mask, Ints]:
        """Of these slots: where the value is an integer, and which."""
        ids = self.values[slots]
        return np.array(self._is_number, np.bool_)[ids], np.array(self._numbers, np.int64)[ids]


class SlotLog:
    """Slots in the order of their changes, read from a position on without copying.

    Attributes:
        end: how many there are; positions start at 0.
    """

    __slots__ = ("_slots", "end")

    def __init__(self) -> None:
        self._slots: Slots = np.zeros(1024, np.intp)
        self.end = 0

    def append(self, slot: int) -> None:
        """Notes a change."""
        if self.end == len(self._slots):
            self._slots = np.concatenate((self._slots, np.zeros_like(self._slots)))
        self._slots[self.end] = slot
        self.end += 1

    def extend(self, slots: Slots) -> None:
        """Notes several changes."""
        end = self.end + len(slots)
        while end > len(self._slots):
            self._slots = np.concatenate((self._slots, np.zeros_like(self._slots)))
        self._slots[self.end : end] = slots
        self.end = end

    def since(self, start: int) -> Slots:
        """The slots from a position on."""
        return self._slots[start : self.end]

    def clear(self) -> None:
        """Forgets all of it."""
        self.end = 0


class ImageColumn:
    """One image over all slots: its size in bytes where the node has it, -1 where not."""

    def __init__(self, slots: int) -> None:
        self.sizes: Ints = np.full(slots, -1, np.int64)

    def summary(self, ranks: Ints) -> tuple[Mask, int, int]:
        """(where it is, on how many nodes, its size as the first of them by name reports it)."""
        there: Mask = self.sizes >= 0
        slots = np.flatnonzero(there)
        if not len(slots):
            return there, 0, 0
        return there, len(slots), self.sizes.item(slots[ranks[slots].argmin()])


class NodeTable:
    """Nodes by slot, amounts in the units of `resources`.

    Attributes:
        room: a line of integers per slot, as the constants above say; the capacity of empty slots is 1.
        extra: what is free of the other resources, a row each.
        columns: resource to its index: below BUILT_IN in `room`, from there on in `extra`.
        taint_set: index into `taint_sets`, pairs of (cordoned, taints).
        static_log, dynamic_log: slots that changed, oldest first; what a class has not looked at yet lies behind its
            own position.
        generation: changes when all positions and indices become void.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.moved: dict[int, None] = {}
        self._build(16)

    def _build(self, slots: int) -> None:
        self.names: list[str | None] = [None] * slots
        self.slot_of: dict[str, int] = {}
        self._spare = list(range(slots - 1, -1, -1))
        self.valid: Mask = np.zeros(slots, np.bool_)
        self.columns: dict[str, int] = {CPU: CPU_COLUMN, MEMORY: MEMORY_COLUMN, PODS: PODS_COLUMN}
        self.room: Ints = _empty_room(slots)
        self.extra: Ints = np.zeros((0, slots), np.int64)
        self._plain: bool | None = None
        self._wide: Ints | None = None
        self._wide_at = 0
        self._every: Slots | None = None
        self.taint_set: npt.NDArray[np.int32] = np.zeros(slots, np.int32)
        self.taint_sets: list[tuple[bool, tuple[Taint, ...]]] = []
        self._taint_ids: dict[tuple[bool, tuple[Taint, ...]], int] = {}
        self.labels: dict[str, LabelColumn] = {}
        self._label_source: list[Mapping[str, str]] = [{}] * slots
        self.images: dict[str, ImageColumn] = {}
        self._image_source: list[tuple[ContainerImage, ...]] = [()] * slots
        self.static_log: list[int] = []
        self.dynamic_log = SlotLog()
        self._sorted: list[str] = []
        self._ranks: Ints | None = None
        self.generation += 1

    @property
    def static_at(self) -> int:
        """Moves on with every change of what nodes are."""
        return len(self.static_log)

    @property
    def slots(self) -> int:
        """How many columns are allocated."""
        return len(self.names)

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.slot_of)

    @property
    def ranks(self) -> Ints:
        """Per slot, the place of its node's name among all names; 0 for empty slots."""
        if self._ranks is None:
            self._ranks = np.zeros(self.slots, np.int64)
            self._ranks[[self.slot_of[name] for name in self._sorted]] = np.arange(len(self._sorted))
        return self._ranks

    def sync(self, nodes: Mapping[str, NodeRecord], changed: Mapping[str, None], usage: Mapping[str, None]) -> None:
        """Looks again at nodes that changed, in whole or only in what is taken; `moved` names slots of new nodes."""
        self.moved = {}
        if self._bloated(len(nodes)):
            self._build(max(16, 2 * len(nodes)))
            changed = dict.fromkeys(nodes)
        known = len(self.columns)
        for name in changed:
            record = nodes.get(name)
            if record is None:
                self._remove(name)
            else:
                self._put(record)
        for name in usage:
            if name in nodes and name not in changed:
                self._put_usage(self.slot_of[name], nodes[name])
        self._put_debts(nodes, list(self.columns.items())[known:])

    def _put_debts(self, nodes: Mapping[str, NodeRecord], added: Sequence[tuple[str, int]]) -> None:
        """Of new resources, what pods take on nodes that don't offer them."""
        for resource, row in added:
            for name, slot in self.slot_of.items():
                used = nodes[name].used.get(resource, 0)
                if used and resource not in nodes[name].capacity:
                    self.extra[row - BUILT_IN, slot] = -_clip(used)

    def _bloated(self, nodes: int) -> bool:
        allowed = _SLACK * (nodes + 1024)
        if len(self.images) > _MAX_IMAGES:
            return True
        return len(self.taint_sets) > allowed or any(len(column.ids) > allowed for column in self.labels.values())

    def _put(self, record: NodeRecord) -> None:
        slot = self.slot_of.get(record.name)
        if slot is None:
            slot = self._allot(record.name)
        node = record.node
        labels = node.metadata.labels or {}
        self._label_source[slot] = labels
        for key, column in self.labels.items():
            column.put(slot, labels.get(key))
        self._image_source[slot] = node.status.images or ()
        for name, image in self.images.items():
            image.sizes[slot] = _image_size(self._image_source[slot], name)
        taints = (node.spec.unschedulable, node.spec.taints or ())
        if taints not in self._taint_ids:
            self._taint_ids[taints] = len(self.taint_sets)
            self.taint_sets.append(taints)
        self.taint_set[slot] = self._taint_ids[taints]
        for resource in record.capacity:
            if resource not in self.columns:
                self._add_resource(resource)
        self._plain = None
        self.static_log.append(slot)
        self._put_usage(slot, record)

    def _put_usage(self, slot: int, record: NodeRecord) -> None:
        used, capacity = record.used, record.capacity
        cpu, memory = capacity.get(CPU, 0), capacity.get(MEMORY, 0)
        self.room[slot] = (
            cpu,
            memory,
            cpu - _clip(record.score_cpu_milli),
            memory - _clip(record.score_memory_bytes),
            cpu - _clip(cpu - used.get(CPU, 0)),
            memory - _clip(memory - used.get(MEMORY, 0)),
            capacity.get(PODS, 0) - record.pods,
            0,
        )
        if len(self.columns) > BUILT_IN:
            for resource, row in self.columns.items():
                if row >= BUILT_IN:
                    self.extra[row - BUILT_IN, slot] = _clip(capacity.get(resource, 0) - used.get(resource, 0))
        self.dynamic_log.append(slot)

    def _add_resource(self, resource: str) -> None:
        """A new row; no class has looked at this resource yet, so all of them have to."""
        self.columns[resource] = len(self.columns)
        self.extra = np.concatenate((self.extra, np.zeros((1, self.slots), np.int64)))
        self.generation += 1

    def _allot(self, name: str) -> int:
        if not self._spare:
            self._grow()
        slot = self._spare.pop()
        self.moved[slot] = None
        self.names[slot] = name
        self.slot_of[name] = slot
        self.valid[slot] = True
        self._sorted.insert(bisect_left(self._sorted, name), name)
        self._ranks = None
        return slot

    def _remove(self, name: str) -> None:
        slot = self.slot_of.pop(name, None)
        if slot is None:
            return
        self.moved[slot] = None
        self.names[slot] = None
        self.valid[slot] = False
        self.room[slot] = _EMPTY
        self._plain = None
        self._label_source[slot] = {}
        for column in self.labels.values():
            column.put(slot, None)
        self._image_source[slot] = ()
        for image in self.images.values():
            image.sizes[slot] = -1
        self._spare.append(slot)
        del self._sorted[bisect_left(self._sorted, name)]
        self._ranks = None
        self.static_log.append(slot)
        self.dynamic_log.append(slot)

    def _grow(self) -> None:
        """Room for a quarter more: every class keeps several bytes for each slot."""
        old = self.slots
        more = max(64, old // 4)
        self.names += [None] * more
        self._label_source += [{}] * more
        self._image_source += [()] * more
        self._spare = list(range(old + more - 1, old - 1, -1))
        self.valid = np.concatenate((self.valid, np.zeros(more, np.bool_)))
        self.room = np.concatenate((self.room, _empty_room(more)))
        self._wide = None
        self.extra = np.concatenate((self.extra, np.zeros((len(self.extra), more), np.int64)), axis=1)
        self.taint_set = np.concatenate((self.taint_set, np.zeros(more, np.int32)))
        for column in self.labels.values():
            column.widen(more)
        for image in self.images.values():
            image.sizes = np.concatenate((image.sizes, np.full(more, -1, np.int64)))
        self.generation += 1

    def label(self, key: str) -> LabelColumn:
        """The column of a label key, built when it is first asked for."""
        column = self.labels.get(key)
        if column is None:
            column = self.labels[key] = LabelColumn(self.slots)
            for slot in self.slot_of.values():
                column.put(slot, self._label_source[slot].get(key))
        return column

    def image(self, name: str) -> ImageColumn:
        """The column of an image, built when it is first asked for."""
        column = self.images.get(name)
        if column is None:
            column = self.images[name] = ImageColumn(self.slots)
            for slot in self.slot_of.values():
                column.sizes[slot] = _image_size(self._image_source[slot], name)
        return column

    @property
    def every(self) -> Slots:
        """All slots."""
        if self._every is None or len(self._every) != self.slots:
            self._every = np.arange(self.slots)
        return self._every

    @property
    def plain(self) -> bool:
        """Whether every node has some CPU and some memory."""
        if self._plain is None:
            self._plain = bool(self.room[:, : BUILT_IN - 1].all())
        return self._plain

    def wide(self) -> Ints:
        """`room` with a row for each of its columns, not to be written to."""
        log = self.dynamic_log
        if self._wide is None:
            self._wide = np.ascontiguousarray(self.room.T)
        elif self._wide_at != log.end:
            slots = log.since(self._wide_at)
            self._wide[:, slots] = self.room[slots].T
        self._wide_at = log.end
        return self._wide

    def free(self, row: int) -> Ints:
        """What is free of a resource, by its index."""
        if row == PODS_COLUMN:
            return self.room[:, PODS_LEFT]
        if row < BUILT_IN:
            left: Ints = self.room[:, CAPACITY + row] - self.room[:, USED + row]
            return left
        free: Ints = self.extra[row - BUILT_IN]
        return free

    def take(self, slot: int, takes: Ints, extras: tuple[tuple[int, int], ...], times: int = 1) -> None:
        """Counts a pod that was just placed, or -1 times one that wasn't after all.

        Args:
            slot: where.
            takes: what it changes in the slot's room.
            extras: (index, amount) of the other resources it takes.
            times: 1 or -1.
        """
        self.room[slot] += takes if times > 0 else -takes
        for row, amount in extras:
            self.extra[row - BUILT_IN, slot] -= times * amount
        self.dynamic_log.append(slot)

    def put_lines(self, slots: Slots, lines: Ints) -> None:
        """Takes over lines of `room` that were worked out elsewhere."""
        self.room[slots] = lines
        self.dynamic_log.extend(slots)

    def trim_logs(self, limit: int) -> None:
        """Forgets long logs between batches; every class then looks at everything again."""
        if len(self.static_log) + self.dynamic_log.end > limit:
            self.static_log.clear()
            self.dynamic_log.clear()
            self._wide = None
            self.generation += 1
