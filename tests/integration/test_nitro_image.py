"""The enclave's root file system, its measurements and its boot's settings, as far as they run without Nitro."""

import io
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.nitro_parts import nitro_part

ROOT = Path(__file__).resolve().parents[2]


boot, pcrs, rootfs = (nitro_part(name) for name in ("boot", "pcrs", "rootfs"))


# --- the archive -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned downloads; set DAAS_TEST_WHEELS to a folder to keep them between runs."""
    kept = os.environ.get("DAAS_TEST_WHEELS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("wheels")
    folder.mkdir(exist_ok=True)
    if not list(folder.iterdir()):
        build(folder.parent / "first.cpio", folder, umask=0o022)
    return folder


def build(out: Path, wheels: Path, *, umask: int, source: Path = ROOT) -> str:
    ca = out.with_suffix(".pem")
    ca.write_text("the CA of NATS\n")
    script = source / "infra/nitro/build-rootfs.sh"
    made = subprocess.run(
        ["bash", "-c", f'umask {umask:o}; exec bash "$@"', "-", script, out, ca, wheels],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
        timeout=200,
    )
    if made.returncode != 0 and not list(wheels.iterdir()):
        pytest.skip(f"the package registry gives no wheels: {made.stderr[-200:]}")
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[0]


@pytest.mark.timeout(400)
def test_two_builds_in_different_folders_under_different_umasks_are_the_same_bytes(
    tmp_path: Path, wheels: Path
) -> None:
    elsewhere = tmp_path / "a" / "longer path"
    elsewhere.mkdir(parents=True)
    for part in ("libs", "services", "infra/nitro", "infra/docker"):
        subprocess.run(
            ["cp", "-R", "--no-preserve=mode,timestamps", ROOT / part, elsewhere / Path(part).name], check=True
        )
    (elsewhere / "infra").mkdir()
    for part in ("nitro", "docker"):
        (elsewhere / part).rename(elsewhere / "infra" / part)

    first = build(tmp_path / "first.cpio", wheels, umask=0o022)
    second = build(elsewhere / "second.cpio", wheels, umask=0o077, source=elsewhere)
    assert first == second
    assert (tmp_path / "first.cpio").read_bytes() == (elsewhere / "second.cpio").read_bytes()

    entries = dict(unpack((tmp_path / "first.cpio").read_bytes()))
    site = str(rootfs.SITE)
    ours = {path.split("/")[6] for path in entries if path.startswith(f"{site}/daas/") and path.count("/") > 6}
    assert ours == {"attestation", "common", "enclave", "placement", "policy"}
    assert not [path for path in entries if path.endswith(".pyc") or "__pycache__" in path or "/tests/" in path]
    assert {mode for mode, _ in entries.values()} == {0o100644, 0o100555, 0o040755}
    for name in ("nkeys", "nacl", "pip", "setuptools", "pysui", "kubernetes", "grpc", "daas/devstack"):
        assert not [path for path in entries if path.startswith(f"{site}/{name}/")], name


#: Runs with the standard library and the archive's packages alone, as `python3 -I` does in the enclave.
IN_THE_IMAGE = """
import json, runpy, sys
site = sys.argv.pop(1)
sys.path.append(site)
import cedarpy, cffi, cryptography.hazmat.primitives.asymmetric.ed25519, numpy
from daas.common.nkeys import nkey_secret, nkey_seed
from daas.enclave.access import load_policies
from daas.policy import AccessRequest, Address, ResourceClass

evaluator = load_policies(None)
def answer(stake_sui, resource):
    target = ResourceClass(group="", resource=resource, subresource="", namespace="default")
    principal = Address(address="0x" + "ab" * 32, stake_sui=stake_sui)
    return evaluator.answer(AccessRequest(principal=principal, verb="get", target=target, timestamp_ms=0))

said = [[a.outcome.value, *a.policies] for a in (answer(1, "pods"), answer(0, "pods"), answer(999, "secrets"))]
foreign = [m.__file__ for m in list(sys.modules.values()) if "site-packages" in (getattr(m, "__file__", None) or "")]
nkey_secret(nkey_seed(bytes(32))).sign(b"a server's nonce")
print(json.dumps({"said": said, "foreign": [path for path in foreign if not path.startswith(site)]}), flush=True)
sys.argv[1:] = ["--help"]
runpy.run_module("daas.enclave", run_name="__main__")
"""


@pytest.mark.timeout(400)
def test_what_is_in_the_archive_runs_the_service_and_evaluates_policies_with_nothing_else_in_reach(
    tmp_path: Path, wheels: Path
) -> None:
    build(tmp_path / "image.cpio", wheels, umask=0o022)
    for path, (mode, content) in unpack((tmp_path / "image.cpio").read_bytes()):
        if mode == 0o040755:
            (tmp_path / "root" / path).mkdir(parents=True)
        else:
            (tmp_path / "root" / path).write_bytes(content)
    interpreter = Path(sys.base_prefix) / "bin/python3.11"
    if not interpreter.exists() or platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64":
        pytest.skip("the wheels of the image are for CPython 3.11 on glibc and x86-64")
    ran = subprocess.run(
        [interpreter, "-I", "-S", "-B", "-c", IN_THE_IMAGE, tmp_path / "root" / str(rootfs.SITE)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    said, _, usage = ran.stdout.partition("\n")
    assert json.loads(said) == {
        "said": [
            ["permitted", "members-work"],
            ["not-permitted"],
            ["forbidden", "secrets-take-an-operators-stake"],
        ],
        "foreign": [],
    }
    assert "DAAS_ENCLAVE_NSM" in usage.upper()


def unpack(archive: bytes) -> Iterator[tuple[str, tuple[int, bytes]]]:
    """Reads "newc" as the kernel does, and checks that owner and time are nobody's."""
    at, inodes = 0, set()
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        inode, mode, uid, gid, _, mtime, size = numbers[:7]
        start = at + 110 + numbers[11]
        name = archive[at + 110 : start - 1].decode()
        start += -start % 4
        if name == "TRAILER!!!":
            return
        assert (uid, gid, mtime) == (0, 0, 0)
        assert inode not in inodes
        inodes.add(inode)
        yield name, (mode, archive[start : start + size])
        at = start + size + -size % 4


def test_a_wheel_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "msgspec-0.22.0-py3-none-any.whl").write_bytes(b"another one")
    with pytest.raises(rootfs.RootfsError, match="not pinned"):
        rootfs.collect(tmp_path, b"", (ROOT / "infra/docker/requirements/enclave.txt").read_text())


def test_a_wheel_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(rootfs.RootfsError, match="aiohttp"):
        rootfs.collect(tmp_path, b"", (ROOT / "infra/docker/requirements/enclave.txt").read_text())


# --- measurements ------------------------------------------------------------------------------------------------

#: PCR2 of published images whose only ramdisk is the first: an application of which nothing is measured.
NOTHING_MEASURED = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"


def eif(sections: list[tuple[int, bytes]]) -> bytes:
    """An image file, version 4."""
    offset, offsets, body = 548, [], b""
    for kind, data in sections:
        offsets.append(offset)
        body += struct.pack(">HHQ", kind, 0, len(data)) + data
        offset += 12 + len(data)
    pad = [0] * (32 - len(sections))
    sizes = [len(data) for _, data in sections]
    head = struct.pack(">4sHHQQHH64QI", b".eif", 4, 0, 0, 0, 0, len(sections), *offsets, *pad, *sizes, *pad, 0)
    return head + struct.pack(">I", zlib.crc32(body, zlib.crc32(head))) + body


KERNEL, CMDLINE, INIT, APP = (1, b"kernel"), (2, b"console=ttyS0"), (3, b"init" * 999), (3, b"rootfs" * 999)


def test_an_image_with_one_ramdisk_measures_nothing_in_pcr2_as_published_images_do() -> None:
    found = pcrs.measure_eif(io.BytesIO(eif([KERNEL, CMDLINE, INIT])))
    assert found.pcr2.hex() == NOTHING_MEASURED
    assert found.pcr0 == found.pcr1


def test_an_image_and_its_parts_measure_alike_and_metadata_counts_for_nothing() -> None:
    parts = pcrs.measure_parts(KERNEL[1], CMDLINE[1], [INIT[1], APP[1]])
    assert pcrs.measure_eif(io.BytesIO(eif([KERNEL, CMDLINE, INIT, APP]))) == parts
    assert pcrs.measure_eif(io.BytesIO(eif([KERNEL, CMDLINE, (5, b"{}"), INIT, APP]))) == parts
    assert len({parts.pcr0, parts.pcr1, parts.pcr2}) == 3
    other = pcrs.measure_parts(KERNEL[1], CMDLINE[1], [INIT[1], APP[1] + b"!"])
    assert other.pcr1 == parts.pcr1
    assert other.pcr0 != parts.pcr0
    assert other.pcr2 != parts.pcr2


@pytest.mark.parametrize("position", [0, 5, 23, 30, 300, 544, 560, 4000])
def test_a_damaged_image_is_refused(position: int) -> None:
    data = bytearray(eif([KERNEL, CMDLINE, INIT, APP]))
    data[position] ^= 0xFF
    with pytest.raises(pcrs.EifError):
        pcrs.measure_eif(io.BytesIO(bytes(data)))
    for short in (100, 555, len(data) - 1):
        with pytest.raises(pcrs.EifError):
            pcrs.measure_eif(io.BytesIO(bytes(data[:short])))


# --- boot --------------------------------------------------------------------------------------------------------

SEED = "SU" + "A" * 56


def test_the_host_can_set_names_and_pace_and_the_rest_is_fixed() -> None:
    settings, seed = boot.parse_settings(
        json.dumps({"DAAS_CLUSTER": "prod", "DAAS_LOG_LEVEL": "debug", "NATS_NKEY_SEED": SEED}).encode()
    )
    assert seed == SEED
    environment = boot.environment(settings)
    assert environment["DAAS_CLUSTER"] == "prod"
    assert environment["DAAS_NATS_TLS_FIRST"] == "true"
    assert environment["DAAS_ENCLAVE_NSM"] == "/dev/nsm"
    assert SEED not in environment.values()


@pytest.mark.parametrize(
    "given",
    [
        {"PYTHONPATH": "/tmp"},
        {"LD_PRELOAD": "/tmp/x.so"},
        {"DAAS_ENCLAVE_NSM": "/tmp/nsm.sock"},
        {"DAAS_NATS_CA_FILE": "/tmp/ca.pem"},
        {"DAAS_NATS_TLS_FIRST": "false"},
        {"DAAS_NATS_URL": "nats://evil:4222"},
        {"SSL_CERT_FILE": "/tmp/ca.pem"},
        {"DAAS_CLUSTER": "Prod\nX=1"},
        {"DAAS_LOG_LEVEL": ["debug"]},
        {"DAAS_ENCLAVE_TAKEOVER_MS": "-1"},
        {"NATS_NKEY_SEED": "SAAAAA"},
    ],
)
def test_nothing_else_is_taken_from_the_host(given: dict[str, object]) -> None:
    complete = {"DAAS_CLUSTER": "prod", "NATS_NKEY_SEED": SEED}
    with pytest.raises(boot.SettingsError) as refused:
        boot.parse_settings(json.dumps({**complete, **given}).encode())
    assert SEED not in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff", b"{}", b'{"DAAS_CLUSTER":"a","DAAS_CLUSTER":"b"}', b"[" * 9000, b"1" * 20_000],
)
def test_settings_that_are_no_object_of_known_names_are_refused(data: bytes) -> None:
    with pytest.raises(boot.SettingsError):
        boot.parse_settings(data)


def test_no_more_is_read_from_the_host_than_settings_can_have() -> None:
    ours, theirs = socket.socketpair()

    class Listener:
        def settimeout(self, seconds: float) -> None: ...

        def accept(self) -> tuple[socket.socket, str]:
            return ours, ""

    with closing(theirs):
        theirs.sendall(b"x" * 50_000)
        assert len(boot.receive(Listener())) == boot.SETTINGS_BYTES_MAX + 1
