"""The limit finds what a server can take, follows it when that changes, and gives way when it is refused."""

import asyncio
import heapq
import random

import pytest

from daas.gateway.concurrency import AdaptiveConcurrency, Vegas


class Server:
    """A queueing model in virtual time: so many workers, each takes so long; more than `room` at once is refused."""

    def __init__(self, workers: int, service_s: float, room: int = 10**9, seed: int = 1) -> None:
        self.workers = workers
        self.service_s = service_s
        self.room = room
        self._random = random.Random(seed)

    def drive(self, vegas: Vegas, requests: int) -> tuple[float, list[int]]:
        """Keeps as many in flight as the limit says; returns requests per second and the limits seen."""
        now = 0.0
        free = [0.0] * self.workers
        flying: list[tuple[float, float, int]] = []
        limits = []
        done = 0
        while done < requests:
            while len(flying) < vegas.limit:
                if len(flying) >= self.room:
                    vegas.overloaded(len(flying) + 1)
                    break
                start = max(now, heapq.heappop(free))
                end = start + self.service_s * self._random.uniform(0.8, 1.2)
                heapq.heappush(free, end)
                heapq.heappush(flying, (end, now, len(flying) + 1))
            now, began, together = heapq.heappop(flying)
            vegas.answered(now - began, together)
            done += 1
            limits.append(vegas.limit)
        return done / now, limits


@pytest.mark.parametrize("workers", [1, 4, 32])
def test_the_limit_reaches_the_servers_rate_without_a_long_queue(workers: int) -> None:
    server = Server(workers, 0.01)
    vegas = Vegas(256)
    server.drive(vegas, 4_000)
    rate, limits = server.drive(vegas, 4_000)
    assert rate > 0.9 * workers / 0.01
    assert max(limits) < workers + 40


def test_a_server_that_lost_most_of_its_workers_is_followed_down_and_up_again() -> None:
    vegas = Vegas(256)
    Server(32, 0.01).drive(vegas, 8_000)
    many = vegas.limit
    Server(2, 0.01).drive(vegas, 8_000)
    few = vegas.limit
    Server(32, 0.01).drive(vegas, 8_000)
    assert few < many / 2
    assert vegas.limit > 2 * few


def test_a_server_that_refuses_above_its_room_gets_hardly_more_than_that() -> None:
    vegas = Vegas(256)
    server = Server(16, 0.01, room=12)
    server.drive(vegas, 2_000)
    rate, limits = server.drive(vegas, 4_000)
    assert rate > 0.6 * 12 / 0.01
    assert sum(limit > 12 for limit in limits) < len(limits) / 2


def test_refusals_of_requests_that_flew_together_count_once() -> None:
    vegas = Vegas(256, start=90)
    for _ in range(30):
        vegas.overloaded(30)
    assert vegas.limit == 60


def test_the_limit_never_falls_below_one_nor_rises_above_what_is_allowed() -> None:
    vegas = Vegas(10)
    for _ in range(5_000):
        vegas.answered(0.001, vegas.limit)
    assert vegas.limit == 10
    for _ in range(100):
        vegas.overloaded(0)
    assert vegas.limit == 1


def test_an_idle_client_learns_nothing_from_being_idle() -> None:
    vegas = Vegas(256)
    for _ in range(5_000):
        vegas.answered(0.001, 1)
    assert vegas.limit == 8


async def test_waiting_requests_get_their_slots_in_order_and_a_cancelled_one_gives_its_slot_back() -> None:
    clock = iter(range(10**6))
    slots = AdaptiveConcurrency(2, lambda: next(clock) / 1000)
    order: list[int] = []
    gates = {n: asyncio.Event() for n in range(6)}
    entered = {n: asyncio.Event() for n in range(6)}

    async def one(n: int) -> None:
        async with slots.slot():
            order.append(n)
            entered[n].set()
            await gates[n].wait()

    tasks = [asyncio.create_task(one(n)) for n in range(6)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    assert slots.in_flight == 2
    tasks[2].cancel()  # while it waits
    gates[0].set()
    await tasks[0]
    await entered[3].wait()
    assert order == [0, 1, 3]
    gates[1].set()
    tasks[4].cancel()  # at the moment its slot may be handed to it
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 5]
    assert slots.in_flight == 0
