"""Preparing a system in containers: identities that stay, settings that a shell can read."""

import os
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from daas.common.errors import ConfigurationError, Unavailable
from daas.common.nkeys import keep_nkey, nkey_public, nkey_seed
from daas.common.subjects import Service
from daas.devstack.deployment import Deployment
from daas.devstack.identities import keep_certificate
from daas.devstack.init.__main__ import main
from daas.devstack.init.deploy import ready_line
from daas.devstack.init.identities import KEY_SERVERS, SERVICES, MasterKeyFile, make_identities
from daas.devstack.init.settings import Surroundings, env_file, own_settings, service_settings
from daas.kms.servers import load as load_key_servers
from daas.seal import MasterKey

AROUND = Surroundings(
    deployed=Deployment(
        chain="ab" * 32, package="0x" + "1" * 64, registry="0x" + "2" * 64, seal_policy="0x" + "3" * 64
    ),
    ledger_url="http://127.0.0.1:9000",
    shared_ledger_url="http://ledger:19000",
    own_ledger=True,
    attestation_root="cd" * 32,
    etcd="http://etcd:2379",
    walrus="http://walrus:19100",
    walrus_epoch_ms=1000,
)
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
    assert len(set(seeds.values())) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in seeds} == {0o600}
    config = (tmp_path / "nats/nats-server.conf").read_text()
    for path, seed in seeds.items():
        assert nkey_public(seed) in config
        assert seed not in config, path
    assert '"handshake_first": true' in config
    assert {path.parent.name for path in (tmp_path / "ids").rglob("nats-ca.pem")} == {
        "gateway",
        "enclave",
        "relay",
        "storage",
        "seal-keeper",
        "people",
    }


def test_each_key_server_gets_a_master_key_of_its_own_and_all_others_the_same_public_halves(tmp_path: Path) -> None:
    make_and_read(tmp_path)
    masters = {name: (tmp_path / "ids" / name / "master.json").read_bytes() for name in KEY_SERVERS}
    assert len(set(masters.values())) == 3
    pinned = {path.parent.name: path.read_text() for path in (tmp_path / "ids").rglob("key-servers.json")}
    assert set(pinned) == {"seal-keeper", "kms", "people"}
    assert len(set(pinned.values())) == 1
    servers = load_key_servers(tmp_path / "ids/kms/key-servers.json")
    assert servers.threshold == 2
    for server, (name, master) in zip(servers.servers, masters.items(), strict=True):
        held = msgspec.json.decode(master, type=MasterKeyFile)
        assert server.object_id == held.object_id
        assert server.url == f"http://{name}:2024"
        assert MasterKey.from_bytes(bytes.fromhex(held.master_key)).public_key.hex() == server.public_key
        assert held.master_key not in repr(held)
        assert held.master_key not in pinned["people"]
    make_and_read(tmp_path)
    assert {name: (tmp_path / "ids" / name / "master.json").read_bytes() for name in KEY_SERVERS} == masters


def test_the_api_server_gets_the_files_of_an_installation_and_the_gateway_only_what_answers_it(tmp_path: Path) -> None:
    make_and_read(tmp_path)
    ids = tmp_path / "ids"
    assert {path.name for path in (ids / "kubernetes").iterdir()} == {
        "admission.kubeconfig",
        "admission.yaml",
        "authn.kubeconfig",
        "authz.kubeconfig",
        "authz.yaml",
        "encryption.yaml",
    }
    authority = x509.load_pem_x509_certificate((ids / "gateway/ca.crt").read_bytes())
    served = x509.load_pem_x509_certificate((ids / "gateway/gateway.crt").read_bytes())
    served.verify_directly_issued_by(authority)
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway"]
    assert {path.parent.parent.name for path in ids.rglob("ca.key")} == {"access"}
    assert "https://127.0.0.1:8443/authz" in (ids / "kubernetes/authz.kubeconfig").read_text()
    assert "https://gateway:18443/authz" in (ids / "k3s/authz.kubeconfig").read_text()
    assert (ids / "k3s/pki/ca.crt").read_bytes() == (ids / "gateway/ca.crt").read_bytes()
    assert "unix:///run/kms/kms.sock" in (ids / "kubernetes/encryption.yaml").read_text()
    first = served.serial_number
    make_and_read(tmp_path)
    assert x509.load_pem_x509_certificate((ids / "gateway/gateway.crt").read_bytes()).serial_number == first


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


@pytest.mark.parametrize("service", SERVICES)
def test_settings_pass_through_a_shell_as_they_are(service: Service, tmp_path: Path) -> None:
    settings = service_settings(service, "dev", "tls://nats:4222") | own_settings(service, AROUND)
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
