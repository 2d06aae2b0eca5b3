"""`daas attest` on real documents of a software NSM, in every form a file may have."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest
from typer.testing import CliRunner

from daas.cli.attest import attest_app
from daas.common.errors import DaasError
from daas.devstack.nsm.authority import DevelopmentAuthority, create_root
from daas.devstack.nsm.module import SoftwareNsm
from daas.devstack.nsm.pcrs import development_measurement

NOW_MS = 1_790_000_000_000


class Made:
    def __init__(self, directory: Path) -> None:
        authority = DevelopmentAuthority(create_root(NOW_MS))
        measurement = development_measurement()
        nsm = SoftwareNsm(authority, measurement, lambda: NOW_MS)
        request = {"Attestation": {"nonce": b"n" * 32, "user_data": None, "public_key": b"k" * 32}}
        self.document: bytes = cbor2.loads(nsm.process(cbor2.dumps(request)))["Attestation"]["document"]
        self.root = authority.root_sha256.hex()
        self.pcrs = [pcr.hex() for pcr in (measurement.pcr0, measurement.pcr1, measurement.pcr2)]
        self.file = directory / "document"

    def arguments(self, *more: str) -> list[str]:
        pcrs = [part for index, value in enumerate(self.pcrs) for part in (f"--pcr{index}", value)]
        return ["verify", str(self.file), *pcrs, "--development-root", self.root, "--historical", *more]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    made.file.write_bytes(made.document)
    return made


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "hexadecimal": lambda data: data.hex().encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_document_verifies_in_each_form_and_says_simulated(made: Made, form: str) -> None:
    made.file.write_bytes(FORMS[form](made.document))
    done = CliRunner().invoke(attest_app, made.arguments())
    assert done.exit_code == 0, done.output
    assert "simulated" in done.output
    assert "not compared: nonce, user data" in done.output


def test_json_output_holds_every_field(made: Made) -> None:
    done = CliRunner().invoke(attest_app, made.arguments("-o", "json", "--nonce", (b"n" * 32).hex()))
    said = json.loads(done.output)
    assert said["verified"] is True
    assert said["simulated"] is True
    assert said["public_key"] == (b"k" * 32).hex()


def test_a_wrong_nonce_and_a_foreign_root_are_refused_with_the_reason(made: Made) -> None:
    wrong = CliRunner().invoke(attest_app, made.arguments("--nonce", "00" * 32))
    assert isinstance(wrong.exception, DaasError)
    assert wrong.exception.reason == "nonce"
    without_root = [a for a in made.arguments() if a not in {"--development-root", made.root}]
    foreign = CliRunner().invoke(attest_app, without_root)
    assert isinstance(foreign.exception, DaasError)
    assert foreign.exception.reason == "root-not-pinned"


def test_show_prints_the_fields_and_says_that_nothing_is_verified(made: Made) -> None:
    done = CliRunner().invoke(attest_app, ["show", str(made.file)])
    assert done.exit_code == 0
    assert "not verified" in done.output
    said = json.loads(CliRunner().invoke(attest_app, ["show", str(made.file), "-o", "json"]).output)
    assert said["verified"] is False
