"""What a client knows of the objects it uses, so that an anchor needs one call of the node and not six.

Shared objects keep the version at which they were shared. Owned objects (capabilities) get a new version with each
transaction that names them: the effects say which, and after any failure the node is asked again.
"""

from typing import TYPE_CHECKING

from daas.ledger.address import CLOCK_ADDRESS
from daas.ledger.errors import NoSuchObject
from daas.ledger.models import Effects, LedgerObject, ObjectReference, SharedReference
from daas.ledger.transaction import Reference

if TYPE_CHECKING:
    from daas.ledger.full_nodes import FullNodes

#: A relay names one registry, a few enclaves and capabilities: this is for processes that live for months.
_MAX_REFERENCES = 1024


class ObjectCache:
    """References of the objects that transactions name."""

    def __init__(self, node: "FullNodes") -> None:
        self._node = node
        self._references: dict[str, Reference] = {}
        self._caps: dict[str, str] = {}

    def remember_shared(self, item: LedgerObject) -> None:
        """An object that was read anyway needs no second look."""
        if item.shared_version is not None:
            address = item.reference.object_id
            self._references[address] = SharedReference(address, item.shared_version)

    async def reference(self, object_id: str) -> Reference:
        """How a transaction names the object now.

        Raises:
            NoSuchObject: `object-missing`.
        """
        if object_id == CLOCK_ADDRESS:
            # Shared since genesis on every Sui chain.
            return SharedReference(CLOCK_ADDRESS, 1)
        known = self._references.get(object_id)
        if known is None:
            item = await self._node.object(object_id)
            if item is None:
                raise NoSuchObject(f"no object {object_id}", reason="object-missing")
            shared = item.shared_version
            known = item.reference if shared is None else SharedReference(object_id, shared)
            if len(self._references) >= _MAX_REFERENCES:
                self._references.clear()
            self._references[object_id] = known
        return known

    async def capability(self, owner: str, object_type: str) -> str:
        """Object id of an address's capability.

        Raises:
            NoSuchObject: `capability-missing`.
        """
        if object_type not in self._caps:
            owned = await self._node.owned(owner, object_type, 1)
            if not owned:
                raise NoSuchObject(f"{owner} has no {object_type}", reason="capability-missing")
            found = owned[0].reference
            self._caps[object_type] = found.object_id
            self._references[found.object_id] = found
        return self._caps[object_type]

    def follow(self, effects: Effects) -> None:
        """Takes over the versions that a transaction left, failed or not."""
        changes = {change.object_id: change for change in effects.changes}
        for object_id, change in changes.items():
            known = self._references.get(object_id)
            if isinstance(known, ObjectReference):
                if change.reference is None:
                    del self._references[object_id]
                elif change.reference.version >= known.version:
                    self._references[object_id] = change.reference

    def forget(self) -> None:
        """After a failure only the node knows the versions of owned objects."""
        self._caps = {}
        self._references = {
            object_id: known for object_id, known in self._references.items() if isinstance(known, SharedReference)
        }
