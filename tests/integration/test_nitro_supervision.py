"""What keeps an enclave running and seen: boot inside it, the parent's watcher outside, and the bytes between them."""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from support.guarded_nats import GuardedNats
from support.nitro_parts import NITRO, nitro_part

from daas.common.bus import Bus
from daas.common.endpoints import Endpoints
from daas.common.errors import DaasError
from daas.common.settings import load
from daas.common.subjects import Service
from daas.enclave.settings import EnclaveSettings

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
boot, forward = nitro_part("boot"), nitro_part("forward")


def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def has(path: Path, count: int) -> bool:
    return len(lines(path)) == count


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


# --- inside: the service and the forwarder ------------------------------------------------------------------------

SUPERVISING = """
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("boot", sys.argv[1])
boot = importlib.util.module_from_spec(spec)
spec.loader.exec_module(boot)
boot.RESTART_FIRST_S, boot.RESTARTS_MAX, boot._POLL_S = 0.01, 3, 0.01
sys.exit(boot.supervise(json.loads(sys.argv[2]), json.loads(sys.argv[3]), {"PATH": os.environ["PATH"]}))
"""


@contextmanager
def supervised(tmp_path: Path, service: str, forwarder: str) -> Iterator["subprocess.Popen[str]"]:
    """boot's supervision of two shell commands; each writes its pid."""
    commands = [
        ["/bin/sh", "-c", f"echo $$ >>{tmp_path}/{name}; {body}"]
        for name, body in (("service", service), ("forwarder", forwarder))
    ]
    program = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, NITRO / "boot.py", *map(json.dumps, commands)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def ended(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_forwarder_that_dies_is_started_again_and_the_service_goes_on(tmp_path: Path) -> None:
    with supervised(tmp_path, "exec sleep 300", "exec sleep 300") as program:
        for number in (1, 2):
            until(partial(has, tmp_path / "forwarder", number))
            os.kill(int(lines(tmp_path / "forwarder")[-1]), signal.SIGKILL)
        until(partial(has, tmp_path / "forwarder", 3))
        assert len(lines(tmp_path / "service")) == 1
        assert program.poll() is None
        program.terminate()
        assert program.wait(DEADLINE_S) == 128 + signal.SIGTERM
        for name in ("service", "forwarder"):
            assert ended(lines(tmp_path / name)[-1])


def test_when_the_service_ends_so_does_everything_with_its_exit_code(tmp_path: Path) -> None:
    wait = f"until [ -s {tmp_path}/forwarder ]; do sleep 0.01; done; exit 7"
    with supervised(tmp_path, wait, "exec sleep 300") as program:
        _, said = program.communicate(timeout=DEADLINE_S)
        assert program.returncode == 7
        assert "the service ended with 7" in said
        assert ended(lines(tmp_path / "forwarder")[0])


def test_a_forwarder_that_can_not_be_kept_running_ends_the_enclave(tmp_path: Path) -> None:
    with supervised(tmp_path, "exec sleep 300", "exit 3") as program:
        _, said = program.communicate(timeout=DEADLINE_S)
        assert program.returncode == 1
        assert "ended 4 times in a row, now with 3" in said
        assert len(lines(tmp_path / "forwarder")) == 4
        assert ended(lines(tmp_path / "service")[0])


# --- between: what the enclave says and is asked, over Unix sockets in the place of vsock ---------------------------


@asynccontextmanager
async def carried(*chain: str) -> AsyncIterator[int]:
    """Forwarders from a TCP port of their choice over the addresses of the chain; yields the port."""
    addresses = [forward.Address.parse(text) for text in ("tcp:127.0.0.1:0", *chain)]
    hops = [
        forward.Forwarder(listen, target, connections_max=boot.CONNECTIONS_MAX)
        for listen, target in itertools.pairwise(addresses)
    ]
    for hop in hops:
        hop.open()
    tasks = [asyncio.create_task(hop.run()) for hop in hops]
    try:
        yield hops[0].listening.getsockname()[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_the_image_carries_nats_out_and_its_http_endpoint_in_and_nothing_else() -> None:
    variables = boot.environment({})
    nats, http = boot.PAIRS
    assert nats == f"tcp:{urlsplit(variables['DAAS_NATS_URL']).netloc}=vsock:3:4222"
    assert http == f"vsock:4294967295:8080=tcp:{variables['DAAS_HTTP_HOST']}:{variables['DAAS_HTTP_PORT']}"
    for name in ("DAAS_HTTP_HOST", "DAAS_HTTP_PORT", "DAAS_NATS_TLS_NAME"):
        assert name not in boot.ALLOWED


@pytest.mark.connected
async def test_the_parent_sees_the_enclaves_metrics_readiness_and_status(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    Counter("seen", "Of the test.", registry=registry).inc(3)

    async def status() -> dict[str, object]:
        return {"head": 7}

    service = Endpoints(registry, dict, lambda: True, status)
    port = urlsplit(await service.start("127.0.0.1", 0)).port
    try:
        async with (
            carried(f"unix:{tmp_path}/vsock", f"tcp:127.0.0.1:{port}") as parent,
            aiohttp.ClientSession() as http,
        ):
            for path, expected in (("metrics", "seen_total 3.0"), ("readyz", "{"), ("status", '"head": 7')):
                async with http.get(f"http://127.0.0.1:{parent}/{path}") as answer:
                    assert answer.status == 200
                    assert expected in await answer.text()
    finally:
        await service.stop()


def guide_block(start: str) -> str:
    """The commands of docs/production.md that begin so."""
    text = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    blocks: list[str] = [
        block for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if start in block
    ]
    assert len(blocks) == 1
    return blocks[0]


def follow_the_guide(folder: Path) -> None:
    folder.mkdir(parents=True)
    commands = guide_block("openssl req -x509")
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "nats-ca.pem").rename(folder / "ca.pem")


@pytest.mark.connected
@pytest.mark.timeout(300)
async def test_with_the_guides_certificate_the_enclave_shakes_hands_through_vsock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = tmp_path / "identities" / "tls"
    follow_the_guide(tls)
    names = ("nats-1.example.com", boot.NATS_TLS_NAME)
    made = (tls / "server.pem").read_bytes()
    nats = GuardedNats(tmp_path / "nats", identities=tmp_path / "identities", cluster="dev", names=names)
    async with nats:
        assert (tls / "server.pem").read_bytes() == made
        server = urlsplit(nats.url)
        async with carried(f"unix:{tmp_path}/vsock", f"tcp:127.0.0.1:{server.port}") as inside:
            variables = boot.environment({"DAAS_CLUSTER": "dev"}) | {
                "DAAS_NATS_URL": boot.FIXED["DAAS_NATS_URL"].replace(":4222", f":{inside}"),
                "DAAS_NATS_CA_FILE": str(tls / "ca.pem"),
                "DAAS_NATS_NKEY_FILE": str(nats.nkey_file(Service.ENCLAVE.value)),
                "DAAS_NATS_START_TIMEOUT_S": "20",
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            async with await Bus.connect(Service.ENCLAVE, load(EnclaveSettings)) as bus:
                assert bus.client.is_connected
            for other in ("", "nats-2.example.com"):
                monkeypatch.setenv("DAAS_NATS_TLS_NAME", other)
                monkeypatch.setenv("DAAS_NATS_START_TIMEOUT_S", "1")
                with pytest.raises(DaasError, match=r"127\.0\.0\.1|nats-2\.example\.com"):
                    await Bus.connect(Service.ENCLAVE, load(EnclaveSettings))


# --- outside: the watcher on the parent ---------------------------------------------------------------------------

#: Speaks as nitro-cli 1.4 does (EnclaveDescribeInfo of its json_output.rs); its enclaves are files.
NITRO_CLI = """#!/bin/sh
cd {folder}
echo "$*" >>calls
describe() {{ printf '{{"EnclaveName":"daas","EnclaveID":"%s","ProcessID":1,"EnclaveCID":16,"NumberOfCPUs":2,' "$1"
  printf '"CPUIDs":[1,3],"MemoryMiB":2048,"State":"%s","Flags":"NONE"}}' "$(cat "running/$1")"; }}
case $1 in
  run-enclave)
    [ ! -e broken ] || {{ echo 'E26 Insufficient memory' >&2; exit 26; }}
    id=i-0-enc$(wc -l <calls); echo RUNNING >"running/$id"
    echo 'Started enclave with enclave-cid: 16' >&2; describe "$id";;
  describe-enclaves)
    printf '['; comma=; for id in $(ls running); do printf '%s' "$comma"; describe "$id"; comma=,; done; printf ']';;
  terminate-enclave) rm "running/$3"; echo '{{}}';;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A parent instance with a stand-in for nitro-cli, and somebody who takes settings as an enclave would."""
    (tmp_path / "running").mkdir()
    cli = tmp_path / "nitro-cli"
    cli.write_text(NITRO_CLI.format(folder=tmp_path))
    cli.chmod(0o755)
    (tmp_path / "enclave.json").write_text('{"DAAS_CLUSTER":"prod"}')
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "vsock"))
        listener.listen(8)

        def take() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link, (tmp_path / "taken").open("ab") as taken:
                    while data := link.recv(4096):
                        taken.write(data + b"\n")

        thread = threading.Thread(target=take)
        thread.start()
        yield tmp_path
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE_S)


@contextmanager
def watching(host: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command: list[str | Path] = [sys.executable, "-I", "-B", NITRO / "parent.py", "--eif", "/opt/scheduler.eif"]
    command += ["--settings", host / "enclave.json", "--target", f"unix:{host}/vsock"]
    command += ["--poll-s", "0.02", "--wait-first-s", "0.02"]
    with (host / "log").open("wb") as log:
        program = subprocess.Popen(
            command,
            stderr=log,
            env={"NITRO_CLI": str(host / "nitro-cli"), "PATH": os.environ["PATH"]},
        )
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def events(host: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(host / "log")]


def happened(host: Path, event: str) -> int:
    return sum(each["event"] == event for each in events(host))


def test_an_enclave_that_ended_is_noticed_and_another_one_gets_its_settings(host: Path) -> None:
    with watching(host) as program:
        until(lambda: happened(host, "settings-taken") == 1, lambda: events(host))
        (first,) = (host / "running").iterdir()
        first.unlink()
        until(lambda: happened(host, "settings-taken") == 2, lambda: events(host))
        (second,) = (host / "running").iterdir()
        assert second.name != first.name
        second.write_text("TERMINATING\n")
        until(lambda: happened(host, "settings-taken") == 3, lambda: events(host))
        reasons = [each["reason"] for each in events(host) if each["event"] == "ended"]
        assert reasons == ["it is no longer listed", "its state is TERMINATING"]
        assert lines(host / "taken") == ['{"DAAS_CLUSTER":"prod"}'] * 3
        program.terminate()
        assert program.wait(DEADLINE_S) == 0
        assert list((host / "running").iterdir()) == []
    runs = [call for call in lines(host / "calls") if call.startswith("run-enclave")]
    assert set(runs) == {
        "run-enclave --eif-path /opt/scheduler.eif --enclave-name daas --cpu-count 2 --memory 2048 --enclave-cid 16"
    }


def test_a_leftover_is_ended_first_and_starts_that_fail_are_tried_at_growing_intervals(
    host: Path,
) -> None:
    (host / "running" / "i-0-enc-left").write_text("RUNNING\n")
    (host / "broken").touch()
    with watching(host):
        until(lambda: happened(host, "ended") == 4, lambda: events(host))
        (host / "broken").unlink()
        until(lambda: happened(host, "settings-taken") == 1, lambda: events(host))
        assert not (host / "running" / "i-0-enc-left").exists()
    found = [each for each in events(host) if each["event"] == "ended"][:4]
    assert [each["again_in_s"] for each in found] == [0.02, 0.04, 0.08, 0.16]
    assert all("E26 Insufficient memory" in str(each["reason"]) for each in found)
