"""The Tritons that videos are made on: which of them are healthy, what they serve, and which is the least busy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.spec import ModelInfo
from proxy.waiting import happens

logger = logging.getLogger(__name__)

CHECK_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


@dataclass(eq=False)
class Triton:
    """One server. What it serves stays known while it is down, so that requests for it can wait."""

    client: AsyncVideoClient
    model: ModelInfo | None = None
    healthy: bool = False
    mine: set[str] = field(default_factory=set)  # jobs that this process runs there
    others: int = 0  # jobs that run there for other processes

    @property
    def load(self) -> int:
        return len(self.mine) + self.others

    async def check(self) -> None:
        """Look at the server, its stages included: Triton says that it is ready when one of them is dead."""
        try:
            running = await self.client.running()
            if not self.healthy:
                self.model = await self.client.model_info()
        except ServerError as error:
            self.suspect(str(error))
            return
        self.others = len(running - self.mine)
        self.healthy = True

    def suspect(self, reason: str) -> None:
        """No new job goes there until a look says that it is well."""
        if self.healthy:
            logger.warning("%s", reason)
        self.healthy = False


class Tritons:
    """All Tritons of this process, each of which takes ``slots`` of its jobs at a time."""

    def __init__(self, clients: Iterable[AsyncVideoClient], slots: int):
        self._all = [Triton(client) for client in clients]
        self._slots = slots

    @classmethod
    @asynccontextmanager
    async def connected(cls, urls: Iterable[str], slots: int) -> AsyncIterator[Tritons]:
        async with AsyncExitStack() as stack:
            yield cls([await stack.enter_async_context(AsyncVideoClient(url)) for url in urls], slots)

    @property
    def healthy(self) -> dict[str, bool]:
        """Whether each could make a video, by its address."""
        return {triton.client.url: triton.healthy for triton in self._all}

    @property
    def models(self) -> dict[str, ModelInfo]:
        """What can be asked for, by name, the default first. Empty until a Triton has answered."""
        found: dict[str, ModelInfo] = {}
        for triton in self._all:
            if triton.model:
                found.setdefault(triton.model.name, triton.model)
        return found

    def free(self) -> set[str]:
        """The models that a job could be made with at once."""
        return {triton.model.name for triton in self._all if triton.model and self._has_room(triton)}

    def least_busy(self, model: str) -> Triton | None:
        """The one to make a job of this model on now."""
        fit = [triton for triton in self._all if triton.model and triton.model.name == model and self._has_room(triton)]
        return min(fit, key=lambda triton: triton.load, default=None)

    async def watch(self, stopping: asyncio.Event) -> None:
        """Keep looking at all of them, at those that are down ever more rarely."""
        async with asyncio.TaskGroup() as group:
            for triton in self._all:
                group.create_task(self._watch(triton, stopping))

    def _has_room(self, triton: Triton) -> bool:
        return triton.healthy and len(triton.mine) < self._slots

    async def _watch(self, triton: Triton, stopping: asyncio.Event) -> None:
        pause = FIRST_PAUSE_S
        while not stopping.is_set():
            await triton.check()
            await happens(stopping, CHECK_S if triton.healthy else pause)
            pause = FIRST_PAUSE_S if triton.healthy else min(2 * pause, LONGEST_PAUSE_S)
