#!/usr/local/bin/python3 -IB
"""First program of the scheduler-enclave: `python3 -I -B /opt/daas/boot.py`, started by init in the enclave.

The parent host hands settings in over vsock, and the host is not trusted. So: one JSON object of bounded size, only
the names listed here, each value of its listed form, and an environment that holds these and what this file sets,
nothing else. Whatever PYTHONPATH, LD_PRELOAD or proxy the host would like is not asked about. What decides about trust
(the NSM device, the CA of NATS, TLS before the greeting) is set here, where PCR0 measures it.
"""

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: Where the parent's settings come from, and where NATS goes out (README.md has the table of ports).
SETTINGS_PORT = 7777
NATS_PORT = 4222
PARENT_CID = 3
SETTINGS_BYTES_MAX = 16_384
SETTINGS_TIMEOUT_S = 300.0
SEED_FILE = Path("/run/nats.nk")
NATS_CA = "/opt/daas/nats-ca.pem"

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


def main() -> int:
    """Boots: loopback, settings, forwarder, service, which takes this process's place. An error ends the enclave."""
    loopback_up()
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((socket.VMADDR_CID_ANY, SETTINGS_PORT))
        listener.listen(1)
        data = receive(listener)
    try:
        settings, seed = parse_settings(data)
    except SettingsError as error:
        sys.stderr.write(f"boot: {error}\n")
        return 1
    SEED_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(SEED_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(seed)
    variables = environment(settings)
    python = [sys.executable, "-I", "-B"]
    pair = f"tcp:127.0.0.1:{NATS_PORT}=vsock:{PARENT_CID}:{NATS_PORT}"
    subprocess.Popen([*python, "/opt/daas/forward.py", pair], env=variables, stdin=subprocess.DEVNULL)  # noqa: S603 - fixed
    return os.execve(sys.executable, [*python, "-m", "daas.enclave"], variables)  # noqa: S606 - takes this place


if __name__ == "__main__":
    sys.exit(main())
