"""`MovePackageService`: packages with their versions, structs and functions."""

from __future__ import annotations

from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.program import Package
from daas.devstack.ledger.rpc.base import Unary, number_token, page_size
from daas.devstack.ledger.rpc.functions import datatype_message, function_message
from daas.devstack.ledger.type_tags import STD, SUI, Datatype, format_address, parse_address
from daas.devstack.ledger.wire import build


class PackageService:
    """Answers about the published packages, and about what of the framework is there as native functions."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def methods(self) -> dict[str, Unary]:
        """Methods by path."""
        return {
            "MovePackageService/GetPackage": self._get_package,
            "MovePackageService/GetDatatype": self._get_datatype,
            "MovePackageService/GetFunction": self._get_function,
            "MovePackageService/ListPackageVersions": self._list_package_versions,
        }

    def _get_package(self, request: Any) -> bytes:
        package_id = parse_address(request.package_id or "")
        package = self.ledger.packages.get(package_id)
        if package is None and package_id not in {STD, SUI}:
            raise GRPCError(Status.NOT_FOUND, f"Package {request.package_id} not found")
        return build(proto.GetPackageResponse, package=self._package(package_id, package))

    def _package(self, package_id: bytes, package: Package | None) -> bytes:
        program = self.ledger.program
        functions: dict[str, list[bytes]] = {}
        for (address, module, _), function in program.functions.items():
            if address == package_id:
                functions.setdefault(module, []).append(function_message(function))
        structs: dict[str, list[bytes]] = {}
        origins = package.origin_map() if package else {}
        for (address, module, name), info in program.structs.items():
            if origins.get((module, name), package_id) == address and (package is None or (module, name) in origins):
                described = datatype_message(Datatype(address, module, name), info, package_id)
                structs.setdefault(module, []).append(described)
        codes: dict[str, bytes] = {}
        if package is not None:
            loaded = [module for address, module in program.modules if address == package_id]
            codes = dict(zip(loaded, package.modules, strict=True))
        return build(
            proto.Package,
            storage_id=format_address(package_id),
            original_id=format_address(package.original if package else package_id),
            version=package.version if package else 1,
            modules=[
                build(
                    proto.Module,
                    name=module,
                    contents=codes.get(module),
                    datatypes=structs.get(module, []),
                    functions=functions.get(module, []),
                )
                for module in sorted({*functions, *structs, *codes})
            ],
            type_origins=[
                build(proto.TypeOrigin, module_name=module, datatype_name=name, package_id=format_address(address))
                for (module, name), address in origins.items()
            ],
            linkage=[
                build(
                    proto.Linkage,
                    original_id=format_address(framework),
                    upgraded_id=format_address(framework),
                    upgraded_version=1,
                )
                for framework in ((STD, SUI) if package else ())
            ],
        )

    def _get_datatype(self, request: Any) -> bytes:
        package_id = parse_address(request.package_id or "")
        program = self.ledger.program
        named = Datatype(package_id, request.module_name or "", request.name or "")
        defined = program.defined(named)
        assert isinstance(defined, Datatype)
        info = program.structs.get(defined.key)
        if info is None:
            name = f"{request.package_id}::{request.module_name}::{request.name}"
            raise GRPCError(Status.NOT_FOUND, f"Datatype {name} not found")
        return build(proto.GetDatatypeResponse, datatype=datatype_message(defined, info, package_id))

    def _get_function(self, request: Any) -> bytes:
        package = parse_address(request.package_id or "")
        function = self.ledger.program.function(package, request.module_name or "", request.name or "")
        if function is None:
            name = f"{request.package_id}::{request.module_name}::{request.name}"
            raise GRPCError(Status.NOT_FOUND, f"Function {name} not found")
        return build(proto.GetFunctionResponse, function=function_message(function))

    def _list_package_versions(self, request: Any) -> bytes:
        package = self.ledger.packages.get(parse_address(request.package_id or ""))
        if package is None:
            raise GRPCError(Status.NOT_FOUND, f"Package {request.package_id} not found")
        family = [p for p in self.ledger.packages.values() if p.original == package.original]
        family.sort(key=lambda p: p.version)
        start = number_token(request.page_token)
        end = start + page_size(request.page_size)
        return build(
            proto.ListPackageVersionsResponse,
            versions=[
                build(proto.PackageVersion, package_id=format_address(p.id), version=p.version)
                for p in family[start:end]
            ],
            next_page_token=end.to_bytes(8, "big") if len(family) > end else None,
        )
