#!/usr/local/bin/python3 -IB
"""First program of the scheduler-enclave: `python3 -I -B /opt/daas/boot.py`, started by init in the enclave.

The parent host hands settings in over vsock, and the host is not trusted. So: one JSON object of bounded size, only
the names listed here, each value of its listed form, and an environment that holds these and what this file sets,
nothing else. Whatever PYTHONPATH, LD_PRELOAD or proxy the host would like is not asked about. What decides about trust
(the NSM device, CA and name of NATS, TLS before the greeting) is set here, where PCR0 measures it.

Then it stays and watches two children: the service, and the forwarder between vsock and the loopback. A forwarder that
ends is started again, with back-off and not for ever; when the service ends, so does the enclave, and the parent starts
another one.
"""

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Where the parent's settings come from, where NATS goes out, and where the parent asks for /metrics, /readyz and
#: /status (README.md has the table of ports).
SETTINGS_PORT = 7777
NATS_PORT = 4222
HTTP_PORT = 8080
PARENT_CID = 3
ANY_CID = 4294967295
SETTINGS_BYTES_MAX = 16_384
SETTINGS_TIMEOUT_S = 300.0
SEED_FILE = Path("/run/nats.nk")
NATS_CA = "/opt/daas/nats-ca.pem"
#: What the certificate of every NATS server carries besides its own name: the enclave dials its own loopback.
NATS_TLS_NAME = "nats.k3s-daas"
#: NATS takes one or two connections, a scraper as many; the parent gets no more of the enclave's memory.
CONNECTIONS_MAX = 16
#: Waits before a forwarder is started again; one that ended more often in a row than this ends the enclave.
RESTART_FIRST_S, RESTART_LAST_S, RESTARTS_MAX = 0.1, 10.0, 12
#: A forwarder that ran so long starts again from the first wait.
SETTLED_S = 60.0
STOP_S = 20.0
_POLL_S = 0.05

_COUNT = r"[0-9]{1,6}"
#: What the host may choose: names, sizes and pace. None of it can weaken a check.
ALLOWED = {
    "DAAS_CLUSTER": re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
    "DAAS_LOG_LEVEL": re.compile(r"debug|info|warning|error"),
    "DAAS_NATS_REPLICAS": re.compile(r"[135]"),
    "DAAS_ENCLAVE_SNAPSHOT_EVERY": re.compile(_COUNT),
    "DAAS_ENCLAVE_SNAPSHOTS_KEPT": re.compile(_COUNT),
    "DAAS_ENCLAVE_TAKEOVER_MS": re.compile(_COUNT),
    "DAAS_ENCLAVE_REPUBLISH_MS": re.compile(_COUNT),
}
#: The seed of the enclave's NKey: it opens the bus, which the host controls anyway; it signs no decision.
SEED = "NATS_NKEY_SEED"
_SEED_FORM = re.compile(r"SU[A-Z2-7]{56}")
FIXED = {
    "DAAS_ENCLAVE_NSM": "/dev/nsm",
    "DAAS_NATS_URL": f"tls://127.0.0.1:{NATS_PORT}",
    "DAAS_NATS_CA_FILE": NATS_CA,
    "DAAS_NATS_NKEY_FILE": str(SEED_FILE),
    "DAAS_NATS_TLS_FIRST": "true",
    "DAAS_NATS_TLS_NAME": NATS_TLS_NAME,
    "DAAS_HTTP_HOST": "127.0.0.1",
    "DAAS_HTTP_PORT": str(HTTP_PORT),
    "DAAS_STATE_DIR": "/run/daas",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
}


class SettingsError(Exception):
    """The host's settings are refused; the message names the setting, never its value."""


def parse_settings(data: bytes) -> tuple[dict[str, str], str]:
    """The allowed settings and the NKey's seed.

    Raises:
        SettingsError: not a JSON object of strings, an unknown name, a value of the wrong form, or no seed.
    """
    if len(data) > SETTINGS_BYTES_MAX:
        raise SettingsError(f"more than {SETTINGS_BYTES_MAX} bytes of settings")
    try:
        given = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise SettingsError("the settings are no JSON object") from None
    if not isinstance(given, dict):
        raise SettingsError("the settings are no JSON object")
    for name, value in given.items():
        form = _SEED_FORM if name == SEED else ALLOWED.get(name)
        if form is None:
            raise SettingsError(f"{name[:64]!r} is not for the host to set")
        if not isinstance(value, str) or not form.fullmatch(value):
            raise SettingsError(f"{name} is not of its form")
    if SEED not in given or "DAAS_CLUSTER" not in given:
        raise SettingsError(f"{SEED} and DAAS_CLUSTER are needed")
    return {name: value for name, value in given.items() if name != SEED}, given[SEED]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the service."""
    return {**settings, **FIXED}


def receive(listener: socket.socket) -> bytes:
    """What the first connection says until it ends its half; at most one byte more than is allowed."""
    listener.settimeout(SETTINGS_TIMEOUT_S)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(SETTINGS_TIMEOUT_S)
        data = b""
        while len(data) <= SETTINGS_BYTES_MAX and (more := connection.recv(SETTINGS_BYTES_MAX + 1 - len(data))):
            data += more
    return data


def loopback_up() -> None:
    """`ip link set lo up`, without the program. ioctl SIOCGIFFLAGS and SIOCSIFFLAGS; IFF_UP is 1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, 0x8913, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


#: What the forwarder carries: NATS out, the HTTP endpoint in.
PAIRS = (
    f"tcp:127.0.0.1:{NATS_PORT}=vsock:{PARENT_CID}:{NATS_PORT}",
    f"vsock:{ANY_CID}:{HTTP_PORT}=tcp:127.0.0.1:{HTTP_PORT}",
)


class Stopped(Exception):
    """SIGTERM came."""


def supervise(service: Sequence[str], forwarder: Sequence[str], variables: Mapping[str, str]) -> int:
    """Runs both until the service ends or SIGTERM comes; a forwarder that ends is started again.

    Args:
        service: the command of the service.
        forwarder: the command of the forwarder, started first.
        variables: the whole environment of both.

    Returns:
        The service's exit code (128 + number for a signal); 1 where the forwarder ended too often.
    """
    started = [_start(forwarder, variables)]
    failures, since = 0, time.monotonic()
    main = _start(service, variables)
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        while (code := main.poll()) is None:
            if (ended := started[-1].poll()) is not None:
                failures = 1 if time.monotonic() - since > SETTLED_S else failures + 1
                if failures > RESTARTS_MAX:
                    _say(f"the forwarder ended {failures} times in a row, now with {ended}: the enclave ends")
                    return 1
                wait_s = min(RESTART_FIRST_S * 2 ** (failures - 1), RESTART_LAST_S)
                _say(f"the forwarder ended with {ended}; again in {wait_s:.1f} s")
                time.sleep(wait_s)
                started[-1:] = [_start(forwarder, variables)]
                since = time.monotonic()
            time.sleep(_POLL_S)
    except Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        main.terminate()
        try:
            code = main.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)
        for child in (main, *started):
            if child.poll() is None:
                child.kill()
            child.wait()
    _say(f"the service ended with {code}")
    return code if code >= 0 else 128 - code


def _start(command: Sequence[str], variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=dict(variables), stdin=subprocess.DEVNULL)  # noqa: S603 - fixed by main


def _stop(_number: int, _frame: object) -> None:
    raise Stopped


def _say(text: str) -> None:
    sys.stderr.write(f"boot: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Boots: loopback, settings, forwarder, service. An error, or the service's end, ends the enclave."""
    loopback_up()
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((socket.VMADDR_CID_ANY, SETTINGS_PORT))
        listener.listen(1)
        data = receive(listener)
    try:
        settings, seed = parse_settings(data)
    except SettingsError as error:
        _say(str(error))
        return 1
    SEED_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(SEED_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(seed)
    variables = environment(settings)
    python = [sys.executable, "-I", "-B"]
    forwarder = [*python, "/opt/daas/forward.py", "--connections-max", str(CONNECTIONS_MAX), *PAIRS]
    return supervise([*python, "-m", "daas.enclave"], forwarder, variables)


if __name__ == "__main__":
    sys.exit(main())
