"""pysui's generated messages of `sui.rpc.v2`, without the packages around them: the only module that imports pysui.

Its top-level package is not imported (GraphQL, HTTP and configuration: 19 MB and 0.8 s beyond the messages).
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from daas.common.errors import ConfigurationError

__all__ = ["FieldMask", "rpc"]

#: Name under which pysui's folder of generated messages is imported; its modules refer to each other relatively.
_MESSAGES = "_daas_pysui_messages"


def _import_messages(name: str) -> ModuleType:
    """A module of pysui's generated messages, without running the `__init__` of the packages around them."""
    if _MESSAGES not in sys.modules:
        spec = importlib.util.find_spec("pysui")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError("pysui is not installed", reason="pysui-missing")
        folder = ModuleType(_MESSAGES)
        folder.__path__ = [str(Path(spec.submodule_search_locations[0], "sui", "sui_grpc", "suimsgs"))]
        sys.modules[_MESSAGES] = folder
    return importlib.import_module(f"{_MESSAGES}.{name}")


if TYPE_CHECKING:
    import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as rpc
    from pysui.sui.sui_grpc.suimsgs.google.protobuf import FieldMask
else:
    rpc = _import_messages("sui.rpc.v2")
    FieldMask = _import_messages("google.protobuf").FieldMask
