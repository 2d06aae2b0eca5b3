"""Preparing a system in containers: identities that stay, settings that a shell can read."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from daas.common.errors import ConfigurationError, Unavailable
from daas.common.nkeys import keep_nkey, nkey_public, nkey_seed
from daas.common.subjects import Service
from daas.devstack.identities import keep_certificate
from daas.devstack.init import env_file, main, make_identities, ready_line, service_settings

#: From docs.nats.io, "NKeys".
DOCUMENTED_SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
DOCUMENTED_PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_documented_nkey_has_its_documented_public_key() -> None:
    assert nkey_public(DOCUMENTED_SEED) == DOCUMENTED_PUBLIC
    assert nkey_public(nkey_seed(bytes(32))).startswith("U")


@pytest.mark.parametrize("seed", ["", "SU123", "not a seed!", DOCUMENTED_SEED[:-1] + "Z", DOCUMENTED_PUBLIC])
def test_what_is_no_seed_is_refused_without_being_quoted(seed: str) -> None:
    with pytest.raises(ConfigurationError, match="nkey-seed") as refused:
        nkey_public(seed)
    assert not seed or seed not in str(refused.value)


def make_and_read(tmp_path: Path) -> dict[Path, str]:
    make_identities(tmp_path / "ids", tmp_path / "nats", cluster="dev", nats_names=["nats", "127.0.0.1"])
    return {path: path.read_text() for path in (tmp_path / "ids").rglob("*.nk")}


def test_identities_are_made_once_private_and_one_for_each(tmp_path: Path) -> None:
    seeds = make_and_read(tmp_path)
    assert make_and_read(tmp_path) == seeds
    assert len(set(seeds.values())) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in seeds} == {0o600}
    config = (tmp_path / "nats/nats-server.conf").read_text()
    for path, seed in seeds.items():
        assert nkey_public(seed) in config
        assert seed not in config, path
    assert '"handshake_first": true' in config
    assert {path.parent.name for path in (tmp_path / "ids").rglob("nats-ca.pem")} == {
        *(service.value for service in (Service.GATEWAY, Service.ENCLAVE, Service.RELAY, Service.STORAGE)),
        "people",
    }


def test_a_certificate_is_kept_and_made_again_for_other_names(tmp_path: Path) -> None:
    keep_certificate(tmp_path, ["nats"])
    first = (tmp_path / "server.pem").read_bytes()
    keep_certificate(tmp_path, ["nats"])
    assert (tmp_path / "server.pem").read_bytes() == first
    keep_certificate(tmp_path, ["nats", "127.0.0.1"])
    second = (tmp_path / "server.pem").read_bytes()
    assert second != first
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    x509.load_pem_x509_certificate(second).verify_directly_issued_by(authority)
    assert stat.S_IMODE((tmp_path / "server.key").stat().st_mode) == 0o600


def test_settings_pass_through_a_shell_as_they_are(tmp_path: Path) -> None:
    settings = service_settings(Service.RELAY, "dev", "tls://nats:4222")
    (tmp_path / "service.env").write_bytes(env_file(settings))
    shown = subprocess.run(
        ["sh", "-c", f"set -a; . {tmp_path}/service.env; env"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    read = dict(line.split("=", 1) for line in shown.stdout.splitlines())
    assert {name: read[name] for name in settings} == settings


async def test_a_part_that_never_says_it_is_ready_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"ready": tr')
    with pytest.raises(Unavailable, match="process-not-ready"):
        await ready_line(tmp_path / "ledger.json", 0.0)


def test_the_command_makes_what_it_is_told_to(tmp_path: Path) -> None:
    assert main(["identities", "--identities", str(tmp_path / "ids"), "--nats", str(tmp_path / "nats")]) == 0
    assert keep_nkey(tmp_path / "ids/relay/nats.nk").startswith("U")
