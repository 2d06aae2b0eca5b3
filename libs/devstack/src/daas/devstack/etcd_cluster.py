"""Launcher of an etcd cluster of several members, each of which can be killed and started again."""

import asyncio
from pathlib import Path
from typing import Final, Self

from daas.devstack.etcd import EtcdServer

#: The smallest cluster that outlives a member.
MEMBERS: Final = 3


class EtcdCluster:
    """Members on 127.0.0.1, as an async context manager.

    Args:
        state_dir: of all members; made if missing. Its path names no socket, so it may be as long as it likes.
        members: how many.
    """

    def __init__(self, state_dir: Path, *, members: int = MEMBERS) -> None:
        # The address of a peer needs something like a port; together they are the name of a socket file.
        peers = {f"member-{n}": f"unix://member-{n}:1" for n in range(1, members + 1)}
        self.members = [EtcdServer(state_dir / name, members=peers) for name in peers]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def endpoints(self) -> list[str]:
        """`http://127.0.0.1:PORT` of each member, known once started."""
        return [member.endpoint for member in self.members]

    async def start(self) -> None:
        """Starts the members that do not run, all at once: none serves before most of them do.

        Raises:
            Unavailable: as of `EtcdServer.start`.
        """
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(member.start())

    async def stop(self) -> None:
        """SIGKILL to every member. What was acknowledged is on disk; members that are asked to end all at once wait for
        seconds to hand on the lead to each other.
        """
        await asyncio.gather(*(member.kill() for member in self.members))
