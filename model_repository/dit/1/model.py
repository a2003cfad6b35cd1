"""Triton adapter of the stage ``dit``; the computation is in ``pipeline.ranks``.

Decoupled: sends a response with only progress per denoising step, some of them with an estimate of
the latents, and a last one with the latents.
"""

from contextlib import ExitStack, suppress
from functools import partial

from pipeline.checkpoint.folder import Checkpoint
from pipeline.ensemble.tensors import CONDITIONS, tensors_of
from pipeline.errors import ServerError
from pipeline.families import ModelInfo
from pipeline.ranks.group import RankGroup
from pipeline.ranks.process import RankError
from pipeline.settings import StageSettings
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter
from pipeline.triton.batches import OpenBatches
from pipeline.triton.dit_request import DitJob, begin
from pipeline.triton.metrics import DitMetrics


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        settings = StageSettings.load(folder)
        conditions = tensors_of(ModelInfo.load(folder), *CONDITIONS)
        Checkpoint.open(settings.checkpoint_path)  # raises before any rank is started
        self.ranks = RankGroup(settings)
        self.jobs = adapter.Jobs(args["model_name"])
        self.metrics = DitMetrics(self.ranks)
        given = {"conditions": conditions, "previews": settings.previews}
        self.job = partial(DitJob, registry=self.jobs.registry, metrics=self.metrics, **given)
        self.batches = OpenBatches(self.run, settings.batching_max_size)

    def execute(self, requests):
        for request in requests:
            with ExitStack() as stack:
                job = self.job(request, stack.enter_context(adapter.Stream(request)))
                stack.pop_all()  # the job ends the stream from here on
                self.batches.submit(job)

    def run(self, jobs, take):
        self.metrics.count_batch(len(jobs))
        with suppress(RankError):  # the tasks have ended with it
            self.ranks.run_open_batch(begin(jobs), lambda running: self.join(take(running)))

    def join(self, jobs):
        self.metrics.count_joined(len(jobs))
        return begin(jobs)

    def finalize(self):
        for job in self.batches.close():
            job.end(ServerError("the server is stopping"))
        self.metrics.close()
        self.jobs.close()
        self.ranks.close()
