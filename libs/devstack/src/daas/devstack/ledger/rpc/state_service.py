"""`StateService`: what addresses and objects own, balances, and the one coin there is."""

from __future__ import annotations

from typing import Any, Final

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.objects import Object
from daas.devstack.ledger.records import object_message
from daas.devstack.ledger.rpc.base import Unary, id_token, mask_for, names, number_token, page_size
from daas.devstack.ledger.rpc.ledger_service import OBJECT_DEFAULT
from daas.devstack.ledger.type_tags import (
    COIN_KEY,
    SUI_TYPE,
    Datatype,
    format_address,
    format_type,
    parse_address,
    parse_type,
    type_tag_bytes,
)
from daas.devstack.ledger.wire import Mask, build, prune

SUI_DECIMALS: Final = 9


class StateService:
    """Answers from the present state of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def methods(self) -> dict[str, Unary]:
        """Methods by path."""
        return {
            "StateService/ListOwnedObjects": self._list_owned_objects,
            "StateService/ListDynamicFields": self._list_dynamic_fields,
            "StateService/GetBalance": self._get_balance,
            "StateService/ListBalances": self._list_balances,
            "StateService/GetCoinInfo": self._get_coin_info,
        }

    def _list_owned_objects(self, request: Any) -> bytes:
        size = page_size(request.page_size)
        wanted = format_type(parse_type(request.object_type)) if request.object_type else ""
        owner = parse_address(request.owner or "")
        found = self.ledger.store.owned(owner, "address", id_token(request.page_token), size + 1, wanted)
        mask = mask_for(proto.Object, request, (*OBJECT_DEFAULT, "owner", "object_type"))
        return build(
            proto.ListOwnedObjectsResponse,
            objects=[self._object(held, mask) for held in found[:size]],
            next_page_token=found[size - 1].id if len(found) > size else None,
        )

    def _object(self, held: Object, mask: Mask | None) -> bytes:
        program = self.ledger.program if names(mask, "json") else None
        return prune(proto.Object, object_message(held, program), mask)

    def _list_dynamic_fields(self, request: Any) -> bytes:
        size = page_size(request.page_size)
        parent = parse_address(request.parent or "")
        found = self.ledger.store.owned(parent, "object", id_token(request.page_token), size + 1)
        mask = mask_for(proto.DynamicField, request, ("kind", "parent", "field_id"))
        fields = [self._dynamic_field(parent, held) for held in found[:size]]
        return build(
            proto.ListDynamicFieldsResponse,
            dynamic_fields=[prune(proto.DynamicField, field, mask) for field in fields],
            next_page_token=found[size - 1].id if len(found) > size else None,
        )

    def _dynamic_field(self, parent: bytes, held: Any) -> bytes:
        program = self.ledger.program
        key_type, value_type = held.type.arguments
        codec = program.codec
        _, name, value = codec.decode(held.type, held.contents)
        is_object = isinstance(key_type, Datatype) and key_type.name == "Wrapper"
        child = self.ledger.object(value[0]) if is_object else None
        shown_type = key_type.arguments[0] if is_object else key_type
        shown_name = codec.encode(shown_type, name[0] if is_object else name)
        return build(
            proto.DynamicField,
            kind=2 if is_object else 1,
            parent=format_address(parent),
            field_id=format_address(held.id),
            field_object=object_message(held, program),
            name=build(proto.Bcs, name=format_type(shown_type), value=shown_name),
            value=build(proto.Bcs, name=format_type(value_type), value=codec.encode(value_type, value)),
            value_type=format_type(child.type if child else value_type),
            child_id=format_address(child.id) if child else None,
            child_object=object_message(child, program) if child else None,
        )

    def _balance(self, owner: bytes, coin_type: str) -> bytes:
        store = self.ledger.store
        coins = store.coin_total(owner, format_type(Datatype(*COIN_KEY, (parse_type(coin_type),))))
        funds = store.funds(owner, coin_type)
        return build(
            proto.Balance, coin_type=coin_type, balance=coins + funds, address_balance=funds, coin_balance=coins
        )

    def _get_balance(self, request: Any) -> bytes:
        coin_type = parse_type(request.coin_type or "0x2::sui::SUI")
        type_tag_bytes(coin_type)  # refuses what is no concrete type
        balance = self._balance(parse_address(request.owner or ""), format_type(coin_type))
        return build(proto.GetBalanceResponse, balance=balance)

    def _list_balances(self, request: Any) -> bytes:
        owner = parse_address(request.owner or "")
        size, start = page_size(request.page_size), number_token(request.page_token)
        found = self.ledger.store.coin_types(owner)
        end = start + size
        return build(
            proto.ListBalancesResponse,
            balances=[self._balance(owner, coin_type) for coin_type in found[start:end]],
            next_page_token=end.to_bytes(8, "big") if len(found) > end else None,
        )

    def _get_coin_info(self, request: Any) -> bytes:
        coin_type = parse_type(request.coin_type or "")
        if coin_type != SUI_TYPE:
            raise GRPCError(Status.NOT_FOUND, f"Coin type {request.coin_type} not found: this ledger registers none")
        metadata = build(
            proto.CoinMetadata, decimals=SUI_DECIMALS, name="Sui", symbol="SUI", description="simulated: of no value"
        )
        return build(proto.GetCoinInfoResponse, coin_type=format_type(coin_type), metadata=metadata)
