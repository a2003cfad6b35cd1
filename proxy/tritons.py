"""The Tritons that videos are made on: which of them are healthy, what they serve, and which is the least busy."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pipeline.client import DeadStage
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.spec import ModelInfo

logger = logging.getLogger(__name__)

CHECK_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
JITTER_S = 1.0


@dataclass(eq=False)
class Triton:
    """One server. What it serves stays known while it is down, so that requests for it can wait."""

    client: AsyncVideoClient
    model: ModelInfo | None = None
    healthy: bool = False
    mine: set[str] = field(default_factory=set)  # jobs that this process runs there
    others: int = 0  # jobs that run there for other processes
    dead_stage: str | None = None

    @property
    def load(self) -> int:
        return len(self.mine) + self.others

    async def check(self) -> None:
        """Look at the server; a stage of it that is dead is loaded again."""
        try:
            stages = await self.client.status()
            dead = [stage for stage, jobs in stages.items() if jobs is None]
            # Of a stage that cannot be asked only a failed job tells.
            if self.dead_stage and self.dead_stage not in stages:
                dead.append(self.dead_stage)
            for stage in dead:
                self.suspect(DeadStage(stage, self.client.url))
                await self._reload(stage)
            if not self.healthy:
                self.model = await self.client.model_info()
        except ServerError as error:
            self.suspect(error)
            return
        self.others = len(set().union(*filter(None, stages.values())) - self.mine)
        self.healthy, self.dead_stage = True, None

    def suspect(self, error: ServerError) -> None:
        """No new job goes there until a look says that it is well."""
        if self.healthy:
            logger.warning("%s", error)
        self.healthy = False
        self.dead_stage = error.stage if isinstance(error, DeadStage) else None

    async def _reload(self, stage: str) -> None:
        # Other processes look at this server too: the first one to come loads the stage, the others find it alive.
        await asyncio.sleep(random.uniform(0, JITTER_S))
        if (await self.client.status()).get(stage) is None:
            logger.warning("loading the stage %s of the Triton at %s again", stage, self.client.url)
            await self.client.reload(stage)


class Tritons:
    """All Tritons of this process, each of which takes ``slots`` of its jobs at a time."""

    def __init__(self, clients: Iterable[AsyncVideoClient], slots: int):
        self._all = [Triton(client) for client in clients]
        self._slots = slots

    @classmethod
    @asynccontextmanager
    async def connected(cls, urls: Iterable[str], slots: int, token: str | None) -> AsyncIterator[Tritons]:
        """``token`` is what Tritons on TCP require to cancel and list jobs."""
        async with AsyncExitStack() as stack:
            yield cls([await stack.enter_async_context(AsyncVideoClient(url, token)) for url in urls], slots)

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
            watches = [group.create_task(_watch(triton)) for triton in self._all]
            await stopping.wait()
            for watch in watches:
                watch.cancel()

    def _has_room(self, triton: Triton) -> bool:
        return triton.healthy and len(triton.mine) < self._slots


async def _watch(triton: Triton) -> None:
    pause = FIRST_PAUSE_S
    while True:
        await triton.check()
        await asyncio.sleep(CHECK_S if triton.healthy else pause)
        pause = FIRST_PAUSE_S if triton.healthy else min(2 * pause, LONGEST_PAUSE_S)
