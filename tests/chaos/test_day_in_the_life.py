"""A day in the life: everything a cluster has, under NKeys and TLS, while it is killed, paused and cut off from a seed.

Two gateways, two enclaves, relay, storage, keeper, KMS plugin, five key servers of which three open a Secret. At the
end nothing is lost, nothing is doubled, everything verifies, and no plaintext is anywhere. What was done to it and how
long each recovery took is shown at the end of the test run and written to `.daas/reports`.
"""

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cluster import PodView
from support.day_stack import LINKED, DayStack
from support.day_work import MARK, NAMESPACE, Work
from support.facts import Facts, assert_chain_is_whole, assert_every_bind_was_anchored_first, kube_of, stored
from support.faults import Injector, Report, plan
from support.guarded_nats import Tap
from support.links import open_links
from support.stored_once import assert_stored_once, files_in_walrus, holders, places

from daas.cli.context import load_context
from daas.common import messages
from daas.common.errors import DaasError
from daas.common.messages import DeadLetter
from daas.common.subjects import Service, Stream
from daas.etcd import EtcdClient
from daas.evidence import EvidenceStore, Keys
from daas.placement import Policy

pytestmark = [pytest.mark.connected]


@dataclass(frozen=True)
class Day:
    """How much happens, and the seed that decides the rest."""

    pods: int
    secrets: int
    waves: int
    #: In each wave.
    faults: int
    seed: int


#: A copy of a decision by the other enclave, and a key that attested for a nonce that another key was faster to use.
HARMLESS = {"placement.decided: duplicate", "enclave.attested: nonce"}
CANARY = b"canary-in-the-coal-mine-93d0"


async def facts_of(stack: DayStack) -> Facts:
    async with await stack.bus(Service.MONITOR) as bus:
        return Facts(stack.cluster, await stored(bus, Stream.PLACEMENT))


async def dead_letters(stack: DayStack) -> list[str]:
    async with await stack.bus(Service.OPERATOR) as bus:
        letters = [messages.decode(message.data, DeadLetter) for message in await stored(bus, Stream.DLQ)]
    return [f"{letter.subject.split('.', 3)[-1]}: {letter.reason}" for letter in letters]


async def assert_nothing_lost_or_doubled(stack: DayStack, pods: list[PodView], report: Report) -> None:
    """Bound once, where an anchored decision said, as facts, ledger, API server and stores agree."""
    bound_to = {one.metadata.uid: one.spec.node_name for one in pods}

    async def told() -> bool:
        return len((await facts_of(stack)).bound) >= len(bound_to)

    await stack.until(told, f"facts of {len(bound_to)} bindings")
    facts = await facts_of(stack)
    await assert_chain_is_whole(stack, facts)
    assert_every_bind_was_anchored_first(facts)
    assert {one.pod_uid: one.node for one in facts.bound} == bound_to
    newest = max(anchor.sequence for anchor in facts.anchored)
    report.facts |= {
        "batches": newest,
        "bound": len(facts.bound),
        "keys that signed": len({anchor.public_key for anchor in facts.anchored}),
        "refused": len(facts.refused),
    }
    async with EtcdClient([stack.etcd.endpoint]) as etcd:
        store, keys = EvidenceStore(etcd, stack.cluster), Keys(stack.cluster)

        async def archived() -> bool:
            kept = [kv async for kv in etcd.prefix(f"{keys.root}bound/{NAMESPACE}/")]
            return await store.latest() == newest and len(kept) == len(pods)

        await stack.until(archived, f"evidence of batch {newest} and {len(pods)} bindings")
        await assert_stored_once(etcd, keys, namespace=NAMESPACE, newest=newest, pods=len(pods))
    found = await files_in_walrus(stack.ready("walrus", "url"), stack.state_dir / "walrus" / "blobs")
    assert not [name for name, count in found.items() if count > 1], "in Walrus more than once"
    assert len([name for name in found if name.startswith("evidence-")]) == newest


async def assert_everything_verifies(work: Work, report: Report) -> None:
    begin = time.monotonic()
    code, output, said = await work.daas("verify", "all", "-o", "json")
    assert code == 0, (said, output[-3000:])
    checked = json.loads(output)
    assert checked["ok"]
    assert len(checked["reports"]) >= report.facts["batches"]
    report.facts["daas verify all"] = f"{len(checked['reports'])} in {time.monotonic() - begin:.1f} s"


async def assert_secrets_open_for_one_who_may(work: Work, directory: Path, report: Report) -> None:
    reader = await work.account(directory / "reader.key", stake=True)
    begin = time.monotonic()
    assert await work.opened(reader, list(work.secrets)) == work.secrets
    report.facts["secrets opened"] = f"{len(work.secrets)} in {time.monotonic() - begin:.1f} s"
    first = next(iter(work.secrets))
    code, output, said = await work.daas(
        "secret", "open", f"{NAMESPACE}/{first}", "--key", "password", keystore=directory / "reader.key"
    )
    assert (code, output.encode()) == (0, work.secrets[first]), said
    stranger = await work.account(directory / "stranger.key", stake=False)
    with pytest.raises(DaasError):
        await work.opened(stranger, [first])


def assert_no_plaintext(stack: DayStack, heard: bytes) -> None:
    found = places(stack.state_dir, {"the bus": heard})
    assert b"secret.seal" in found["the bus"], "the tap heard nothing of Secrets"
    assert not holders(MARK.encode(), found)
    # What was put there is found: in a file, and on the bus.
    assert holders(CANARY, found) == sorted([str(stack.state_dir / "canary"), "the bus"])


async def live(stack: DayStack, tap: Tap, directory: Path, report: Report, day: Day) -> None:
    """The day, from the first pod to the last check."""
    begin = time.monotonic()
    context = load_context({"DAAS_CONTEXT": str(stack.context_path)})
    async with kube_of(stack) as client:
        work = Work(stack, client, random.Random(day.seed), context)
        await work.prepare()
        injector = Injector(stack, report, work.probe)
        for number, wave in enumerate(plan(random.Random(day.seed), waves=day.waves, faults=day.faults)):
            async with asyncio.TaskGroup() as beside:
                beside.create_task(work.piece(day.pods // day.waves, day.secrets // day.waves))
                beside.create_task(injector.wave(number, wave))
        final = await work.all_bound()
        report.restarts = dict(stack.restarts)
        report.facts |= {"pods": len(final), "secrets": len(work.secrets)}
        await assert_nothing_lost_or_doubled(stack, final, report)
        await assert_everything_verifies(work, report)
        await assert_secrets_open_for_one_who_may(work, directory, report)
    letters = Counter(await dead_letters(stack))
    assert set(letters) <= HARMLESS, letters
    report.facts |= {f"dead letters, {what}": count for what, count in letters.items()}
    await tap.say(base64.b64encode(b"a longer text with " + CANARY + b" in it"))
    (stack.state_dir / "canary").write_bytes(CANARY.hex().encode())
    assert_no_plaintext(stack, bytes(tap.heard))
    report.facts["took"] = f"{time.monotonic() - begin:.0f} s"


#: A seed that pauses NATS, kills an enclave and a key server and cuts storage off; none of them for long.
SMALL = Day(pods=100, secrets=8, waves=1, faults=4, seed=40)
FULL = [Day(pods=1_500, secrets=100, waves=10, faults=3, seed=seed) for seed in range(4)]


@pytest.mark.parametrize(
    "day",
    [
        pytest.param(SMALL, marks=pytest.mark.timeout(600), id=f"small-{SMALL.seed}"),
        *(
            pytest.param(day, marks=[pytest.mark.soak, pytest.mark.timeout(3_500)], id=f"full-{day.seed}")
            for day in FULL
        ),
    ],
)
async def test_a_day_in_the_life_loses_nothing_doubles_nothing_verifies_and_leaks_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None], day: Day
) -> None:
    report, written = Report(day.seed), report_file(request)
    try:
        async with open_links(LINKED) as (links, note):
            report.links, report.links_note = links.kind, note
            async with (
                DayStack(tmp_path / "state", policy=Policy().digest(), links=links) as stack,
                Tap(stack.guarded) as tap,
            ):
                await live(stack, tap, tmp_path, report, day)
    except BaseException:
        print(f"to see it again: .venv/bin/pytest '{request.node.nodeid}'")
        raise
    finally:
        content = json.dumps(report.content(), indent=2) + "\n"
        await asyncio.to_thread(written.write_text, content, encoding="utf-8")
        record_property("report", "\n".join([*report.lines(), f"  written to {written}"]))


def report_file(request: pytest.FixtureRequest) -> Path:
    """Where the report of this test goes; it outlives the test's own directory."""
    directory = request.config.rootpath / ".daas" / "reports"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"day-in-the-life-{request.node.callspec.id}.json"
