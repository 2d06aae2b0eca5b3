"""Floods of pods of few kinds, which the engine places in runs, and a scheduler that places every pod by itself."""

import random
from collections.abc import Iterator
from typing import Any

from placement_world import ZONES, make_pod

from daas.placement import Scheduler
from daas.placement.choosing import Choice, Chooser
from daas.placement.kinds import GANG_LABEL
from daas.placement.log import PodGroupUpserted
from daas.placement.model import Pod
from daas.placement.records import PodRecord

#: No taint tells against them, so that the nodes differ in room and rules only.
_EVERYWHERE = [{"operator": "Exists"}]


class OneByOne(Chooser):
    """Chooses for every pod by itself."""

    def each(self, records: list[PodRecord]) -> Iterator[Choice]:
        return map(self.choose, records)


def one_by_one(scheduler: Scheduler) -> Scheduler:
    """The same scheduler, which places no pods in runs from now on."""
    scheduler.use(OneByOne(scheduler._state, scheduler._engine))
    return scheduler


def kind_of_flood(rng: random.Random, number: int) -> Pod:
    """A template; `number` tells kinds apart that count only their own pods."""
    labels = {"app": rng.choice(["web", "db"]), "flood": str(number)}
    selector = {"matchLabels": rng.choice([{"app": rng.choice(["web", "db"])}, {"flood": str(number)}])}
    spec: dict[str, Any] = {"tolerations": _EVERYWHERE} if rng.random() < 0.9 else {}
    if rng.random() < 0.2:
        spec["nodeSelector"] = {"disk": "ssd"}
    kind = rng.choice(["free", "spread", "spread", "apart", "apart", "port"])
    if kind == "spread":
        spec["topologySpreadConstraints"] = [
            {
                "topologyKey": key,
                "maxSkew": rng.randrange(1, 4),
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector,
                "nodeAffinityPolicy": rng.choice(["Honor", "Ignore"]),
                "nodeTaintsPolicy": rng.choice(["Honor", "Ignore"]),
                **({"minDomains": rng.randrange(1, 20)} if rng.random() < 0.3 else {}),
            }
            for key in rng.sample(ZONES, rng.choice([1, 1, 2]))
        ]
    if kind == "apart" or rng.random() < 0.1:
        terms = [{"topologyKey": rng.choice(ZONES), "labelSelector": selector} for _ in range(rng.choice([1, 1, 2]))]
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    ports = [{"containerPort": 80, "hostPort": 82}] if kind == "port" else []
    return make_pod(
        "x",
        cpu=rng.choice(["", "1m", "40m", "300m"]),
        memory=rng.choice(["", "8Mi", "100Mi"]),
        namespace=rng.choice(["default", "blue"]),
        metadata={"labels": labels},
        priority=rng.choice([0, 0, 0, 10]),
        ports=ports,
        **spec,
    )


def flood(rng: random.Random, number: int) -> list[Pod]:
    """Templates, one for each pod, in the order in which the pods come."""
    kinds = [kind_of_flood(rng, number) for _ in range(rng.choice([1, 1, 2, 3]))]
    pods = [kind for kind in kinds for _ in range(rng.choice([4, 8, 20]))]
    if rng.random() < 0.5:
        rng.shuffle(pods)
    return pods


def gang(rng: random.Random, number: int) -> tuple[PodGroupUpserted, list[Pod]]:
    """A group of its own with all its pods or one too few, large ones that others may have to make room for."""
    namespace, name, size = rng.choice(["default", "blue"]), f"g{number}", rng.randrange(2, 6)
    labels = {"app": rng.choice(["web", "db"]), GANG_LABEL: name}
    spec: dict[str, Any] = {"tolerations": _EVERYWHERE}
    if rng.random() < 0.3:
        selector = {"matchLabels": {GANG_LABEL: name}}
        term = {"topologyKey": rng.choice(ZONES), "labelSelector": selector}
        side = rng.choice(["podAffinity", "podAntiAffinity"])
        spec["affinity"] = {side: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    if rng.random() < 0.1:
        spec["preemptionPolicy"] = "Never"
    pods = [
        make_pod(
            "x",
            cpu=rng.choice(["300m", "900m", "1500m"]),
            namespace=namespace,
            metadata={"labels": labels},
            priority=rng.choice([10, 10, 20]),
            **spec,
        )
        for _ in range(size - (rng.random() < 0.2))
    ]
    return PodGroupUpserted(namespace=namespace, name=name, min_count=size), pods
