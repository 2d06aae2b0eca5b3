"""Where a pod's volumes let it go, over all nodes at once: `volumes` on columns.

Only pods with claims come here. What a volume's affinity selects is kept until nodes change.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from daas.placement.claims import Claims
from daas.placement.model import NodeSelector
from daas.placement.reasons import NONE, Reason
from daas.placement.records import NodeRecord, PodRecord
from daas.placement.selection import term_mask
from daas.placement.table import Mask, NodeTable
from daas.placement.volumes import ZONE_LABELS, Needs, Search, affinity_of, choose_volumes

#: Affinities that are kept: one column of booleans each.
_KEPT = 1024


class Reach(msgspec.Struct, frozen=True):
    """What the claims of one pod mean for nodes.

    Attributes:
        refusal: why no node will do, whatever it is; NONE where `bars` say.
        bars: (reason, where it keeps the pod out), in kube-scheduler's order.
    """

    refusal: Reason
    bars: tuple[tuple[Reason, Mask], ...] = ()

    @property
    def within(self) -> Mask:
        """Where no bar is."""
        found = ~self.bars[0][1]
        for _, bar in self.bars[1:]:
            found &= ~bar
        return found


class VolumeReach:
    """Answers for pods with claims."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._kept: dict[bytes, Mask] = {}
        self._at = (-1, -1)

    def of(self, record: PodRecord, claims: Claims, nodes: Mapping[str, NodeRecord]) -> Reach:
        """Where a pod's volumes let it go now."""
        needs = claims.needs(record)
        if needs.refusal:
            return Reach(needs.refusal)
        table = self._table
        if self._at != (table.generation, table.static_at):
            self._at = (table.generation, table.static_at)
            self._kept = {}
        full = np.zeros(table.slots, np.bool_)
        for name in claims.limited(driver for driver, _ in needs.attaches):
            slot = table.slot_of.get(name)
            if slot is not None:
                full[slot] = not claims.has_room(name, needs, record.uid)
        return Reach(NONE, ((Reason.VOLUME_LIMIT, full), (Reason.VOLUME_MISMATCH, ~self._reached(needs, nodes))))

    def _reached(self, needs: Needs, nodes: Mapping[str, NodeRecord]) -> Mask:
        table = self._table
        found = table.valid.copy()
        if needs.only:
            slot = table.slot_of.get(needs.only)
            found[:] = False
            if slot is not None:
                found[slot] = True
        for affinity in needs.affinities:
            found &= self._selected(affinity)
        for key, values in needs.zones:
            found &= self._zone(key, values)
        if needs.searches:
            found &= self._found(needs, nodes)
        return found

    def _found(self, needs: Needs, nodes: Mapping[str, NodeRecord]) -> Mask:
        """Where every claim without a volume gets one: node by node only where volumes made by hand are in reach."""
        table = self._table
        made = np.ones(table.slots, np.bool_)
        by_hand = np.zeros(table.slots, np.bool_)
        for search in needs.searches:
            made &= self._made(search)
            for volume in search.candidates:
                affinity = affinity_of(volume)
                if affinity is None:
                    by_hand[:] = True
                elif volume.spec.claim_ref is not None:
                    by_hand[:] = True  # elsewhere it would be refused even where one could be made
                else:
                    by_hand |= self._selected(affinity)
        for slot in np.flatnonzero(by_hand & table.valid).tolist():
            name = table.names[slot]
            assert name is not None, "a valid slot has a name"
            made[slot] = choose_volumes(needs, nodes[name].node) is not None
        return made

    def _made(self, search: Search) -> Mask:
        if search.topologies is None:
            return np.zeros(self._table.slots, np.bool_)
        if not search.topologies:
            return np.ones(self._table.slots, np.bool_)
        return self._selected(NodeSelector(node_selector_terms=search.topologies))

    def _selected(self, selector: NodeSelector) -> Mask:
        key = msgspec.json.encode(selector, order="deterministic")
        found = self._kept.get(key)
        if found is None:
            slots = np.arange(self._table.slots)
            found = np.zeros(self._table.slots, np.bool_)
            for term in selector.node_selector_terms:
                found |= term_mask(self._table, term, slots)
            if len(self._kept) < _KEPT:
                self._kept[key] = found
        return found

    def _zone(self, key: str, values: tuple[str, ...]) -> Mask:
        table = self._table
        own, today = table.label(key), table.label(ZONE_LABELS[key])
        silent = own.values == 0
        inside = np.isin(own.values, [own.ids[v] for v in values if v in own.ids])
        inside |= silent & np.isin(today.values, [today.ids[v] for v in values if v in today.ids])
        anywhere = np.zeros(table.slots, np.bool_)
        for label in ZONE_LABELS:
            anywhere |= table.label(label).values != 0
        return inside | ~anywhere
