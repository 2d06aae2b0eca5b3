"""Keeps one scheduler-enclave running on its parent instance: starts it, hands it its settings, watches, starts again.

`nitro-cli run-enclave` returns as soon as the enclave runs, and an enclave can end at any time: its boot was refused,
its service stopped, the host took its memory. So `nitro-cli describe-enclaves` is asked again and again, and an enclave
that is not there, or not running, is replaced after a wait that doubles with each failure in a row. A new enclave has a
new key and is registered anew; nothing is lost meanwhile. Standard library only; never passes `--debug-mode`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: nitro-cli answers in a second; starting has to take and zero memory first.
DESCRIBE_TIMEOUT_S, RUN_TIMEOUT_S = 30.0, 180.0
#: An enclave reads its settings once Python is up; it gives up after five minutes itself.
SETTINGS_TIMEOUT_S = 120.0
#: nitro-cli's own enclave process may be busy: so many answers in a row have to fail.
BAD_ANSWERS_MAX = 3


class NitroError(Exception):
    """The enclave could not be started, or is no longer there; the message says why."""


class Stopped(Exception):
    """SIGTERM or SIGINT came."""


@dataclass(frozen=True)
class Plan:
    """What to run, and how patient to be (seconds)."""

    nitro_cli: str
    eif: str
    settings: Path
    target: str
    name: str = "daas"
    cid: int = 16
    cpus: int = 2
    memory_mib: int = 2048
    poll_s: float = 5.0
    wait_first_s: float = 5.0
    wait_last_s: float = 300.0
    settled_s: float = 600.0


def ask(plan: Plan, *arguments: str, timeout_s: float = DESCRIBE_TIMEOUT_S) -> Any:
    """What nitro-cli prints on stdout, which is JSON.

    Raises:
        NitroError: it failed, took too long, or said something else.
    """
    command = " ".join(arguments[:1])
    try:
        done = subprocess.run(  # noqa: S603 - the program is this unit's, the arguments are ours
            [plan.nitro_cli, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NitroError(f"nitro-cli {command}: {type(error).__name__}: {error}") from None
    if done.returncode != 0:
        raise NitroError(f"nitro-cli {command} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise NitroError(f"nitro-cli {command} said no JSON: {done.stdout[:200]!r}") from None


def enclaves(plan: Plan) -> dict[str, dict[str, Any]]:
    """The enclaves of our name on this instance, by id."""
    said = ask(plan, "describe-enclaves")
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise NitroError("nitro-cli describe-enclaves said no list of enclaves")
    return {str(each.get("EnclaveID")): each for each in said if each.get("EnclaveName") == plan.name}


def start(plan: Plan) -> str:
    """Ends what an earlier run left behind, starts the enclave, and returns its id."""
    for left in enclaves(plan):
        say("leftover", enclave=left)
        ask(plan, "terminate-enclave", "--enclave-id", left)
    sizes = ("--cpu-count", str(plan.cpus), "--memory", str(plan.memory_mib), "--enclave-cid", str(plan.cid))
    made = ask(
        plan, "run-enclave", "--eif-path", plan.eif, "--enclave-name", plan.name, *sizes, timeout_s=RUN_TIMEOUT_S
    )
    found = made.get("EnclaveID") if isinstance(made, dict) else None
    if not isinstance(found, str) or not found:
        raise NitroError("nitro-cli run-enclave named no enclave")
    return found


def send_settings(plan: Plan) -> None:
    """Hands the enclave its settings, once it listens.

    Raises:
        NitroError: no file, or nobody listens in time.
    """
    try:
        data = plan.settings.read_bytes()
    except OSError as error:
        raise NitroError(f"settings: {error}") from None
    kind, _, rest = plan.target.partition(":")
    host, _, port = rest.rpartition(":")
    deadline = time.monotonic() + SETTINGS_TIMEOUT_S
    while True:
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_VSOCK, socket.SOCK_STREAM) as link:
            link.settimeout(DESCRIBE_TIMEOUT_S)
            try:
                link.connect(rest if kind == "unix" else (int(host), int(port)))
                link.sendall(data)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise NitroError(f"the enclave takes no settings at {plan.target}: {error}") from None
            else:
                return
        time.sleep(min(0.5, plan.poll_s))


def watch(plan: Plan, enclave: str) -> str:
    """Returns, with the reason, when the enclave no longer runs."""
    bad = 0
    while True:
        time.sleep(plan.poll_s)
        try:
            found = enclaves(plan).get(enclave)
        except NitroError as error:
            bad += 1
            if bad >= BAD_ANSWERS_MAX:
                return str(error)
            continue
        bad = 0
        if found is None:
            return "it is no longer listed"
        if found.get("State") != "RUNNING":
            return f"its state is {found.get('State')}"


def keep(plan: Plan) -> None:
    """Runs enclaves, one after the other, until Stopped."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            enclave = start(plan)
            say("started", enclave=enclave)
            send_settings(plan)
            say("settings-taken", enclave=enclave)
            reason = watch(plan, enclave)
        except NitroError as error:
            reason = str(error)
        failures = 1 if time.monotonic() - began > plan.settled_s else failures + 1
        wait_s = min(plan.wait_first_s * 2 ** min(failures - 1, 16), plan.wait_last_s)
        say("ended", reason=reason, failures=failures, again_in_s=wait_s)
        time.sleep(wait_s)


def say(event: str, **facts: object) -> None:
    """One JSON line on stderr, for the journal."""
    sys.stderr.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stderr.flush()


def _stop(_number: int, _frame: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def main() -> int:
    """Runs until SIGTERM or SIGINT, and takes the enclave along."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--eif", required=True, help="image file")
    parser.add_argument("--settings", type=Path, required=True, help="JSON for the enclave, as boot.py takes it")
    parser.add_argument("--name", default=Plan.name, help="of the enclave; another one of this name is ended first")
    parser.add_argument("--cid", type=int, default=Plan.cid, help="its vsock address")
    parser.add_argument("--cpus", type=int, default=Plan.cpus)
    parser.add_argument("--memory-mib", type=int, default=Plan.memory_mib)
    parser.add_argument(
        "--target", help="where settings go, vsock:CID:PORT or unix:PATH; default: the enclave, port 7777"
    )
    parser.add_argument("--poll-s", type=float, default=Plan.poll_s)
    parser.add_argument("--wait-first-s", type=float, default=Plan.wait_first_s)
    options = parser.parse_args()
    plan = Plan(
        nitro_cli=os.environ.get("NITRO_CLI", "/usr/bin/nitro-cli"),
        eif=options.eif,
        settings=options.settings,
        target=options.target or f"vsock:{options.cid}:7777",
        name=options.name,
        cid=options.cid,
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        poll_s=options.poll_s,
        wait_first_s=options.wait_first_s,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        keep(plan)
    except Stopped:
        try:
            for enclave in enclaves(plan):
                ask(plan, "terminate-enclave", "--enclave-id", enclave)
        except NitroError as error:
            say("not-terminated", reason=str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
