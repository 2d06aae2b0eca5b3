"""Genuine Nitro attestation documents are loaded as on Sui, at the time of their making, and altered ones refused."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from daas.devstack.ledger.errors import MoveAbortError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import Meter
from daas.devstack.ledger.interpreter import call
from daas.devstack.ledger.natives.registry import FUNCTIONS, Ref
from daas.devstack.ledger.objects import CLOCK_ID
from daas.devstack.ledger.program import Program
from daas.devstack.ledger.type_tags import SUI

VECTORS = Path(os.environ.get("DAAS_NITRO_VECTORS") or Path(__file__).parents[5] / "shared/vectors/nitro")
DAY_MS = 24 * 3_600 * 1_000
LOAD = FUNCTIONS[SUI, "nitro_attestation", "load_nitro_attestation"]

pytestmark = pytest.mark.skipif(
    not (VECTORS / "vectors.json").exists(),
    reason=f"no Nitro vectors in {VECTORS}: DAAS_NITRO_VECTORS names another place",
)


def vectors() -> list[dict[str, Any]]:
    path = VECTORS / "vectors.json"
    loaded = json.loads(path.read_text()) if path.exists() else []
    return list(loaded["vectors"] if isinstance(loaded, dict) else loaded)


def load(document: bytes, now_ms: int) -> Any:
    execution = Execution(
        Program(), lambda _: None, sender=bytes(32), sponsor=None, digest=bytes(32), epoch=0, epoch_start_ms=0,
        gas_price=1_000, meter=Meter(1_000_000),
    )  # fmt: skip
    (loaded,) = call(execution, LOAD, (), [bytearray(document), Ref([[[[CLOCK_ID]], now_ms]], 0)])
    return loaded, execution.meter.units()


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["id"]))
def test_a_genuine_document_is_loaded_with_what_it_says(vector: dict[str, Any]) -> None:
    document = base64.b64decode((VECTORS / f"{vector['id']}.b64").read_text())
    if vector["expect"] != "valid":
        with pytest.raises(MoveAbortError):
            load(document, vector["verify_at_ms"])
        return
    loaded, units = load(document, vector["verify_at_ms"])
    module_id, _, digest, pcrs, *optional = loaded
    assert (module_id.decode(), digest.decode()) == (vector["module_id"], "SHA384")
    stated = {int(index): bytes.fromhex(value) for index, value in vector["pcrs"].items()}
    assert {index: bytes(value) for index, value in pcrs if any(value)} == stated
    wanted = [vector[name] for name in ("public_key", "user_data", "nonce")]
    assert [bytes(field[0][0]).hex() if field[0] else None for field in optional] == wanted
    assert 10_000 <= units <= 20_000


@pytest.mark.parametrize("vector", [v for v in vectors() if v["expect"] == "valid"][:3], ids=lambda v: str(v["id"]))
def test_an_altered_or_expired_document_is_refused_with_the_code_of_the_framework(vector: dict[str, Any]) -> None:
    document = bytearray(base64.b64decode((VECTORS / f"{vector['id']}.b64").read_text()))
    with pytest.raises(MoveAbortError) as expired:
        load(bytes(document), vector["verify_at_ms"] + 3 * DAY_MS)
    assert expired.value.code == 2
    document[-1] ^= 1
    with pytest.raises(MoveAbortError) as altered:
        load(bytes(document), vector["verify_at_ms"])
    assert altered.value.code == 2
    with pytest.raises(MoveAbortError) as malformed:
        load(bytes(document[:-1]), vector["verify_at_ms"])
    assert malformed.value.code == 1
