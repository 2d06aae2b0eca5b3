"""`make bench`: every benchmark, or those named on the command line; figures stand beside a floor of the same run."""

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

#: Module of this folder, and what it measures.
BENCHMARKS = {
    "memory": "resident memory of every part of an idle stack, beside its limit",
    "stages": "pods/s through each stage alone, and through several, beside raw nats-py and the bare engine",
    "through": "pods/s through the bus to a verified decision, and what each process spends on a pod, beside the floor",
    "cluster": "pods/s from creation to bound through the API server, beside a bare client that only binds",
    "binder": "bindings/s of the gateway for anchored decisions, beside a bare client that only binds",
    "reflector": "seconds and memory to take 5,000 nodes and 10,000 pods, beside reading the lists",
    "storage": "pods/s of evidence in batches of 512 through the storage service, beside raw etcd and the bare disk",
    "webhook": "authorization webhook at 300 requests/s through the enclave, beside the same server's bare round trip",
    "engine": "decisions/s of the engine alone by mix of pods, beside the floors it is held to",
}
#: The same, run by name only.
BY_NAME = {
    "chain": "anchors/s interpreted and through client and server, and the relay's latency, beside their floors",
}
#: Programs of their own, with options; run by name only, because they take minutes or need node.
PROGRAMS = {
    "certificates": "certificates of optimality and rebalancing: planning, verification, size",
    "kms": "KMS Decrypt at 500 calls/s over the plugin's socket, beside a bare gRPC echo",
    "seal": "Seal beside the official TypeScript client",
}


def main() -> int:
    """Runs them in order; returns the exit code."""
    folder = Path(__file__).resolve().parent
    sys.path[:0] = [str(folder), str(folder.parent)]
    wanted = sys.argv[1:] or list(BENCHMARKS)
    every = BENCHMARKS | BY_NAME | PROGRAMS
    unknown = [name for name in wanted if name not in every]
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {', '.join(every)}\n")
        return 2
    for name in wanted:
        sys.stdout.write(f"\n== {name}: {every[name]}\n")
        sys.stdout.flush()
        if name in PROGRAMS or name == "engine":
            done = subprocess.run([sys.executable, str(folder / f"{name}.py")], check=False)
            if done.returncode:
                return done.returncode
            continue
        run: Callable[[], Coroutine[None, None, None]] = importlib.import_module(name).run
        asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
