"""The software NSM as a process: start, many clients, restart with the same root, and a clean end."""

import asyncio
import contextlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from daas.attestation import UNCHECKED, AttestationPolicy, NsmClient, NsmErrorCode, NsmRefused, NsmUnavailable, verify
from daas.common.errors import ConfigurationError
from daas.devstack.nsm import (
    DevelopmentAuthority,
    NsmServer,
    SoftwareNsm,
    create_root,
    development_measurement,
    load_or_create_root,
)
from daas.devstack.nsm.server import CONNECTIONS_MAX

START_MS = 1_790_000_000_000


class Ready(msgspec.Struct, frozen=True):
    """The line that the process prints."""

    ready: bool
    simulated: bool
    socket: str
    root_sha256: str
    root_der: str
    module_id: str | None
    debug: bool
    pcrs: dict[str, str]


@contextlib.contextmanager
def _process(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Ready]]:
    command = [sys.executable, "-W", "error", "-m", "daas.devstack.nsm"]
    command += ["--socket", str(directory / "nsm.sock"), "--state", str(directory / "state"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                assert process.stderr is not None
                pytest.fail(process.stderr.read())
            yield process, msgspec.json.decode(line, type=Ready)
        finally:
            process.kill()


def _attest(path: str, nonce: bytes) -> bytes:
    with NsmClient.open(path) as nsm:
        return nsm.attestation(nonce=nonce, public_key=bytes(32))


@pytest.mark.connected
def test_the_process_says_what_a_relying_party_must_know_and_its_documents_verify(tmp_path: Path) -> None:
    with _process(tmp_path, "--image-measure", "our image") as (_, ready):
        assert (ready.ready, ready.simulated, ready.debug) == (True, True, False)
        measurement = development_measurement(["our image"])
        assert ready.pcrs == {"0": measurement.pcr0.hex(), "1": measurement.pcr1.hex(), "2": measurement.pcr2.hex()}
        policy = AttestationPolicy(
            measurements=[measurement],
            nonce=b"challenge",
            user_data=UNCHECKED,
            public_key_length_bytes=32,
            development_root_sha256=bytes.fromhex(ready.root_sha256),
        )
        attestation = verify(_attest(ready.socket, b"challenge"), policy, time.time_ns() // 1_000_000)
        assert (attestation.module_id, attestation.simulated) == (ready.module_id, True)


@pytest.mark.connected
def test_a_restarted_process_keeps_its_root_and_is_another_enclave(tmp_path: Path) -> None:
    with _process(tmp_path) as (first, before):
        with NsmClient.open(before.socket) as nsm:
            nsm.extend_pcr(16, b"policy")
            nsm.lock_pcr(16)
        first.kill()
        first.wait(10)
        with _process(tmp_path) as (_, after), NsmClient.open(after.socket) as nsm:
            assert after.root_sha256 == before.root_sha256
            assert nsm.describe().module_id == after.module_id != before.module_id
            assert nsm.describe_pcr(16).data == bytes(48)


@pytest.mark.connected
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_cleanly_while_a_client_is_connected(tmp_path: Path, number: signal.Signals) -> None:
    with _process(tmp_path) as (process, ready), NsmClient.open(ready.socket) as nsm:
        nsm.describe()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert not Path(ready.socket).exists()
        with pytest.raises(NsmUnavailable):
            nsm.describe()


@pytest.mark.connected
def test_many_clients_share_one_enclave_at_the_same_time(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def use(path: str, number: int) -> None:
        try:
            with NsmClient.open(path) as nsm:
                nsm.extend_pcr(16, bytes([number]))
                assert nsm.describe().module_id
                assert nsm.attestation(nonce=bytes([number]))
        except Exception as error:  # noqa: BLE001 (carried to the main thread)
            errors.append(error)

    with _process(tmp_path) as (_, ready):
        threads = [threading.Thread(target=use, args=(ready.socket, number)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not errors
        with NsmClient.open(ready.socket) as nsm:
            nsm.lock_pcr(16)
        with NsmClient.open(ready.socket) as nsm, pytest.raises(NsmRefused) as refused:
            nsm.extend_pcr(16, b"late")
        assert refused.value.code is NsmErrorCode.READ_ONLY_INDEX


@pytest.mark.connected
def test_on_request_every_connection_is_an_enclave_of_its_own(tmp_path: Path) -> None:
    with (
        _process(tmp_path, "--enclave-per-connection") as (_, ready),
        NsmClient.open(ready.socket) as one,
        NsmClient.open(ready.socket) as other,
    ):
        assert ready.module_id is None
        assert one.describe().module_id != other.describe().module_id
        one.lock_pcr(16)
        other.extend_pcr(16, b"free here")


@pytest.mark.connected
def test_a_second_process_on_the_same_socket_is_refused(tmp_path: Path) -> None:
    with _process(tmp_path) as (_, ready):
        command = [sys.executable, "-m", "daas.devstack.nsm", "--socket", ready.socket, "--state", str(tmp_path / "b")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (second.returncode, second.stdout) == (2, "")
        assert "nsm-socket-in-use" in second.stderr
        with NsmClient.open(ready.socket) as nsm:
            nsm.describe()


@pytest.mark.connected
def test_the_debug_option_gives_zero_registers(tmp_path: Path) -> None:
    with _process(tmp_path, "--debug") as (_, ready):
        assert ready.debug
        assert set(ready.pcrs.values()) == {"00" * 48}


def _nsm() -> SoftwareNsm:
    return SoftwareNsm(DevelopmentAuthority(create_root(START_MS)), development_measurement(), lambda: START_MS)


@pytest.mark.parametrize("length", [0, 0x1001, 0xFFFFFFFF])
async def test_a_frame_that_is_too_long_is_answered_and_the_connection_closed(tmp_path: Path, length: int) -> None:
    nsm = _nsm()
    async with NsmServer(tmp_path / "s", lambda: nsm):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(length.to_bytes(4, "little"))
        frame = await asyncio.wait_for(reader.read(), 100)
        assert frame[4:] == b"\xa1\x65Error\x6dInputTooLarge"
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(tmp_path: Path) -> None:
    nsm = _nsm()
    async with NsmServer(tmp_path / "s", lambda: nsm):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"\x10\x00\x00\x00half")
        writer.close()
        await writer.wait_closed()

        def describe() -> str:
            with NsmClient.open(tmp_path / "s") as client:
                return client.describe().module_id

        assert await asyncio.to_thread(describe) == nsm.module_id


async def test_connections_are_bounded_and_the_refused_ones_counted(tmp_path: Path) -> None:
    nsm = _nsm()
    async with NsmServer(tmp_path / "s", lambda: nsm) as server:
        streams = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(CONNECTIONS_MAX)]
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        assert await asyncio.wait_for(reader.read(), 100) == b""
        assert server.connections_refused == 1
        for _, open_writer in [*streams, (reader, writer)]:
            open_writer.close()
            await open_writer.wait_closed()


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    async with NsmServer(tmp_path / "s", _nsm):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


async def test_the_socket_of_a_killed_server_is_replaced_but_no_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with NsmServer(tmp_path / "s", _nsm):
        pass
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / ("x" * 120), tmp_path / "missing" / "s"):
        with pytest.raises(ConfigurationError):
            await NsmServer(path, _nsm).__aenter__()


def test_the_root_is_made_once_and_its_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    state = tmp_path / "state"
    root = load_or_create_root(state, START_MS)
    assert load_or_create_root(state, START_MS + 1).der == root.der
    assert (state / "root.der").read_bytes() == root.der
    assert (state / "root.sha256").read_text() == DevelopmentAuthority(root).root_sha256.hex() + "\n"
    assert stat.S_IMODE((state / "root.key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    load_or_create_root(tmp_path, START_MS)
    (tmp_path / "root.key.pem").chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        load_or_create_root(tmp_path, START_MS)


@pytest.mark.parametrize(
    ("name", "content"),
    [("root.der", b"garbage"), ("root.sha256", b"00"), ("root.key.pem", b"garbage"), ("root.der", None)],
)
def test_a_damaged_root_is_refused_and_never_replaced(tmp_path: Path, name: str, content: bytes | None) -> None:
    load_or_create_root(tmp_path, START_MS)
    if content is None:
        content = create_root(START_MS).der
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_or_create_root(tmp_path, START_MS)
    assert (tmp_path / name).read_bytes() == content


def test_a_start_that_was_cut_short_before_the_key_begins_again(tmp_path: Path) -> None:
    before = load_or_create_root(tmp_path, START_MS)
    (tmp_path / "root.key.pem").unlink()
    after = load_or_create_root(tmp_path, START_MS)
    assert after.der != before.der
    assert load_or_create_root(tmp_path, START_MS).der == after.der
