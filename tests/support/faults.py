"""Faults from a seed: parts are killed, paused or cut off, and how long the system takes to recover is written down."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from support.day_stack import LINKED, SERVERS, DayStack

How = Literal["kill", "pause", "cut"]
HOWS: tuple[How, ...] = ("kill", "pause", "cut")
#: Long enough for a lease and a standby's patience to run out, short enough for a test.
HELD_S = (1.0, 6.0)
#: Between the faults of one wave: some fall together, some into the recovery of the one before.
APART_S = (0.0, 1.5)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    how: How
    target: str
    after_s: float
    held_s: float


def plan(rng: random.Random, *, waves: int, faults: int) -> list[list[Fault]]:
    """Waves of faults, every kind about as often; no part is hit twice in a wave.

    Args:
        rng: the seed decides everything.
        waves: how many.
        faults: in each.
    """
    kinds: list[How] = [HOWS[n % len(HOWS)] for n in range(waves * faults)]
    rng.shuffle(kinds)
    planned = []
    for wave in range(waves):
        wanted: list[Fault] = []
        for how in kinds[wave * faults : (wave + 1) * faults]:
            among = LINKED if how == "cut" else (*LINKED, *SERVERS)
            target = rng.choice([name for name in among if name not in {fault.target for fault in wanted}])
            held_s = 0.0 if how == "kill" else rng.uniform(*HELD_S)
            wanted.append(Fault(how, target, round(rng.uniform(*APART_S), 2), round(held_s, 2)))
        planned.append(wanted)
    return planned


@dataclass
class Injury:
    """A fault as it happened. Times in seconds; the last two since it was inflicted."""

    wave: int
    how: str
    target: str
    at_s: float
    held_s: float
    #: Until the part itself answered again as it should.
    part_well_s: float | None = None
    #: Until a pod that was created when it was inflicted was bound.
    next_pod_bound_s: float | None = None


@dataclass
class Report:
    """What was done to a system and how it took it."""

    seed: int
    links: str = ""
    links_note: str = ""
    injuries: list[Injury] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """As JSON builtins."""
        return asdict(self)

    def lines(self) -> Sequence[str]:
        """For people."""
        said = [f"seed {self.seed}, links: {self.links} {self.links_note}".rstrip()]
        said += [
            f"  wave {one.wave} at {one.at_s:6.1f} s  {one.how:5} {one.target:12} held {one.held_s:4.1f} s  "
            f"well after {_s(one.part_well_s)}  next pod bound after {_s(one.next_pod_bound_s)}"
            for one in self.injuries
        ]
        said.append(f"  started again: {self.restarts}")
        said += [f"  {name}: {value}" for name, value in self.facts.items()]
        return said


def _s(value: float | None) -> str:
    return "never" if value is None else f"{value:5.1f} s"


class Injector:
    """Inflicts faults on a stack.

    Args:
        stack: running.
        report: gets every injury.
        probe: creates a pod of this name and returns when it is bound.
    """

    def __init__(self, stack: DayStack, report: Report, probe: Callable[[str], Awaitable[None]]) -> None:
        self._stack, self._report, self._probe = stack, report, probe
        self._started = time.monotonic()

    async def wave(self, number: int, faults: Sequence[Fault]) -> None:
        """Inflicts faults beside one another; returns when the system has recovered from all of them."""
        async with asyncio.TaskGroup() as together:
            for n, fault in enumerate(faults):
                together.create_task(self._inflict(number, f"probe-{number}-{n}", fault))

    async def _inflict(self, wave: int, pod: str, fault: Fault) -> None:
        stack, target = self._stack, fault.target
        await asyncio.sleep(fault.after_s)
        begin = time.monotonic()
        injury = Injury(wave, fault.how, target, round(begin - self._started, 1), fault.held_s)
        self._report.injuries.append(injury)
        async with asyncio.TaskGroup() as recovery:
            recovery.create_task(self._next_pod(injury, begin, pod))
            before = stack.part(target)
            if fault.how == "kill":
                stack.signal(target, signal.SIGKILL)
                await stack.until(lambda: _true(stack.part(target) is not before), f"{target} is started again")
            else:
                await self._hold(fault)
            await stack.until(lambda: stack.well(target), f"{target} is well again")
            injury.part_well_s = round(time.monotonic() - begin, 2)

    async def _hold(self, fault: Fault) -> None:
        stack, target = self._stack, fault.target
        try:
            if fault.how == "pause":
                stack.signal(target, signal.SIGSTOP)
            else:
                await stack.links.cut(target)
            await asyncio.sleep(fault.held_s)
        finally:
            if fault.how == "pause":
                stack.signal(target, signal.SIGCONT)
            else:
                await stack.links.join(target)

    async def _next_pod(self, injury: Injury, begin: float, pod: str) -> None:
        await self._probe(pod)
        injury.next_pod_bound_s = round(time.monotonic() - begin, 2)


async def _true(value: bool) -> bool:
    return value
