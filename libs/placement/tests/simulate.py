"""Simulates clusters from a seed and checks the invariants after every entry: `make simulate SEED=7`.

A seed that fails prints the command that runs it again and a shortened log that still fails.
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent / "support"
STEPS = 10_000


def main(arguments: list[str]) -> int:
    """0 where every invariant held, 1 where one broke."""
    parser = argparse.ArgumentParser(prog="simulate.py", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(SUPPORT))
    simulator = import_module("placement_simulator")
    for seed in range(options.seed, options.seed + options.seeds):
        started = time.monotonic()
        try:
            decisions = simulator.run(seed, options.steps)
        except simulator.SimulationFailed as failure:
            print(failure)  # noqa: T201 - a command
            print(f"again: python libs/placement/tests/simulate.py {seed} --steps {failure.steps}")  # noqa: T201 - as above
            entries = simulator.shrink(failure.entries)
            print(f"a log of {len(entries)} of {len(failure.entries)} entries:")  # noqa: T201 - as above
            for entry in entries:
                print(entry.decode(errors="backslashreplace"))  # noqa: T201 - as above
            return 1
        seconds = time.monotonic() - started
        print(f"seed {seed}: {options.steps} steps, {decisions} decisions, {seconds:.0f} s")  # noqa: T201 - as above
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
