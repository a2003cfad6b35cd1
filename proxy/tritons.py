"""The Tritons that make videos: their health, their models, and which one is least busy."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pipeline.client import CONTROL, DECODER, DeadStage, StageFault, Stages
from pipeline.client.aio import AsyncVideoClient
from pipeline.errors import ServerError
from pipeline.families import ModelInfo
from pipeline.families.timeouts import HANG_TIMEOUT_S
from proxy.own_triton import OwnTriton
from proxy.pause import Pause

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
JITTER_S = 1.0

Connect = Callable[[str], Awaitable[AsyncVideoClient]]


@dataclass(eq=False)
class Triton:
    """One Triton. Its model stays known while it is down, so that requests for it can wait."""

    client: AsyncVideoClient
    hang_timeout_s: float = HANG_TIMEOUT_S
    model: ModelInfo | None = None
    healthy: bool = False
    own_jobs: set[str] = field(default_factory=set)  # jobs of this process
    other_jobs: int = 0  # jobs of other processes
    dead_stage: str | None = None
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server or one of its stages has not answered for ``hang_timeout_s``.

    The jobs that this process runs there are lost then. Later jobs get a new event.
    """
    _suspected: bool = False
    _silent_since: float | None = None
    _loading: str | None = None  # also after a failure, which leaves the stage unloaded

    @property
    def load(self) -> int:
        return len(self.own_jobs) + self.other_jobs

    async def check(self) -> None:
        """Check the server: reload a dead stage, and set ``hung`` after ``hang_timeout_s``."""
        self._suspected, began = False, time.monotonic()
        try:
            stages = await self._stages()
        except ServerError as error:
            # When it answers again, it may be another process.
            self.dead_stage = None
            self._unwell(error)
            self._count_silence(began)
            return
        try:
            await self._load_dead(stages)
            if silent := {stage for stage, found in stages.items() if found is StageFault.SILENT}:
                where = f"the stage {min(silent)} of the Triton at {self.client.url}"
                self._unwell(ServerError(f"{where} does not answer"))
                # Jobs do not need the control model.
                if silent != {CONTROL}:
                    self._count_silence(began)
                return
            if not self.healthy:
                self.model = await self.client.model_info()
        except ServerError as error:
            self._unwell(error)
            return
        if self._suspected:
            return  # a job failed meanwhile; the next check decides
        self.other_jobs = len(
            set().union(*(jobs for jobs in stages.values() if isinstance(jobs, set)))
            - self.own_jobs
        )
        self.healthy, self.dead_stage, self._silent_since = True, None, None
        if self.hung.is_set():
            self.hung = asyncio.Event()

    def suspect(self, error: ServerError) -> None:
        """Send no new jobs, after one failed, until a later check finds the server healthy."""
        self._unwell(error)
        self._suspected = True

    def _unwell(self, error: ServerError) -> None:
        if self.healthy:
            logger.warning("%s", error)
        self.healthy = False
        if isinstance(error, DeadStage):
            self.dead_stage = error.stage

    async def _stages(self) -> Stages:
        try:
            return await self.client.status()
        except ServerError:
            # A stage that failed to load keeps the ensemble from being ready.
            if self._loading is None:
                raise
        await self._load(self._loading)
        return await self.client.status()

    async def _load_dead(self, stages: Stages) -> None:
        # A dead stage that reports no status is known only from a job that failed there.
        known = {self.dead_stage} - stages.keys() if self.dead_stage else set()
        for stage in {stage for stage, found in stages.items() if found is StageFault.DEAD} | known:
            self._unwell(DeadStage(stage, self.client.url))
            # Other processes check this server too: the first one loads the stage, the others find
            # it alive.
            await asyncio.sleep(random.uniform(0, JITTER_S))
            if (await self.client.status()).get(stage, StageFault.DEAD) is StageFault.DEAD:
                await self._load(stage)
            if stage == DECODER:
                # Triton never ends the requests that it had taken.
                self.hung.set()

    async def _load(self, stage: str) -> None:
        logger.warning("loading the stage %s of the Triton at %s again", stage, self.client.url)
        self._loading = stage
        await self.client.reload(stage)
        self._loading = None
        self._silent_since = None

    def _count_silence(self, since: float) -> None:
        if self._silent_since is None:
            self._silent_since = since
        if time.monotonic() - self._silent_since >= self.hang_timeout_s:
            self.hung.set()


class Tritons:
    """All Tritons of this process; each runs up to ``slots`` of its jobs at a time."""

    def __init__(
        self,
        clients: Iterable[AsyncVideoClient],
        slots: int,
        hang_timeout_s: float = HANG_TIMEOUT_S,
        own: OwnTriton | None = None,
        connect: Connect | None = None,
    ):
        """``own`` joins the others when it is announced; ``connect`` then makes its client."""
        self._all = [Triton(client, hang_timeout_s) for client in clients]
        self._slots = slots
        self._hang_timeout_s = hang_timeout_s
        self._own, self._connect = own, connect
        self._pause = own.pause if own else Pause()
        self._pause.count_with(lambda: sum(len(triton.own_jobs) for triton in self._all))
        self.ready = asyncio.Event()
        """Set once a Triton can make a video."""

    @classmethod
    @asynccontextmanager
    async def connected(
        cls,
        urls: Iterable[str],
        slots: int,
        hang_timeout_s: float,
        token: str | None,
        own: OwnTriton | None = None,
    ) -> AsyncIterator[Tritons]:
        """Connect to ``urls``, and later to ``own``.

        Tritons on TCP require ``token`` to cancel and list jobs.
        """
        async with AsyncExitStack() as stack:

            async def connect(url: str) -> AsyncVideoClient:
                return await stack.enter_async_context(AsyncVideoClient(url, token))

            yield cls([await connect(url) for url in urls], slots, hang_timeout_s, own, connect)

    @property
    def healthy(self) -> dict[str, bool]:
        """Whether each Triton can make a video, by its address."""
        return {triton.client.url: triton.healthy for triton in self._all}

    @property
    def problem(self) -> str | None:
        """Why no Triton can make a video, as a sentence; None if one can."""
        if any(triton.healthy for triton in self._all):
            return None
        return self._own.stage if self._own and self._own.starting else "no Triton is healthy"

    @property
    def models(self) -> dict[str, ModelInfo]:
        """The models by name, the default first.

        Empty until a Triton has answered, or this process's own was announced.
        """
        found: dict[str, ModelInfo] = {}
        for triton in self._all:
            if triton.model:
                found.setdefault(triton.model.name, triton.model)
        return found

    def free(self) -> set[str]:
        """Return the models for which some Triton has a free slot."""
        return {
            triton.model.name for triton in self._all if triton.model and self._has_slot(triton)
        }

    def least_busy(self, model: str) -> Triton | None:
        """Return the Triton with a free slot for ``model`` that runs the fewest jobs, if any."""
        fit = [
            triton
            for triton in self._all
            if triton.model and triton.model.name == model and self._has_slot(triton)
        ]
        return min(fit, key=lambda triton: triton.load, default=None)

    async def watch(self, stopping: asyncio.Event) -> None:
        """Check all Tritons until ``stopping`` is set, those that are down less and less often."""
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(self._watch(triton)) for triton in self._all]
            if self._own and self._connect:
                watches.append(group.create_task(self._watch_own(self._own, self._connect)))
            await stopping.wait()
            for watch in watches:
                watch.cancel()

    async def _watch_own(self, own: OwnTriton, connect: Connect) -> None:
        place = await own.announced()
        client = await connect(place.grpc_url)
        triton = Triton(client, self._hang_timeout_s, model=place.model)
        self._all.append(triton)
        await own.start()
        await self._watch(triton)

    async def _watch(self, triton: Triton) -> None:
        pause = FIRST_PAUSE_S
        while True:
            await triton.check()
            if triton.healthy:
                self.ready.set()
            await asyncio.sleep(CHECK_INTERVAL_S if triton.healthy else pause)
            pause = FIRST_PAUSE_S if triton.healthy else min(2 * pause, LONGEST_PAUSE_S)

    def _has_slot(self, triton: Triton) -> bool:
        return triton.healthy and len(triton.own_jobs) < self._slots and not self._pause.holding
