"""Simulated clusters: whatever the log says, in whatever order, the invariants hold and the bytes are the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from placement_simulator import Simulator, digest_of_run, fails, run, shrink

from daas.placement import Scheduler


@pytest.mark.parametrize("seed", range(6))
def test_invariants_hold_after_every_entry_of_a_random_log(seed: int) -> None:
    simulator = Simulator(seed)
    for _ in range(120):
        simulator.check(simulator.step())
    simulator.check_nothing_lost()
    assert len(simulator.world.claims) > 20


@pytest.mark.parametrize("seed", [100, 101])
def test_a_snapshot_at_any_entry_and_the_rest_of_the_log_give_the_same_as_the_whole(seed: int) -> None:
    simulator = Simulator(seed)
    world = simulator.world
    follower = Scheduler(world.genesis)
    for _ in range(100):
        applied = simulator.step()
        again = follower.apply(len(world.entries), world.entries[-1])
        assert again == applied
        assert follower.head == world.scheduler.head
        snapshot = follower.snapshot()
        assert snapshot == world.scheduler.snapshot()
        follower = Scheduler.restore(world.genesis, snapshot)
        assert follower.head == world.scheduler.head


def test_processes_with_other_hash_seeds_reach_the_same_head() -> None:
    here = digest_of_run(7, 60)
    for hash_seed in ("0", "1", "4711"):
        program = "from placement_simulator import digest_of_run; print(digest_of_run(7, 60))"
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent / "support")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == here


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_invariants_hold_over_long_random_logs(seed: int) -> None:
    assert run(seed, 10_000) > 1_000


def test_a_log_that_breaks_an_invariant_is_shortened_to_what_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator(3)
    for _ in range(30):
        simulator.step()
    entries = simulator.world.entries
    assert not fails(entries)
    assert shrink(entries) == entries
    needed = {entries[4], entries[20]}
    monkeypatch.setattr("placement_simulator.fails", lambda some: needed <= set(some))
    assert set(shrink(entries)) == needed


def test_the_command_runs_a_seed_and_names_what_it_did() -> None:
    program = [sys.executable, str(Path(__file__).with_name("simulate.py")), "5", "--steps", "40"]
    found = subprocess.run(program, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("seed 5: 40 steps, ")
