"""Triton adapter of the stage ``dit``; the work is in ``pipeline.stages.dit``.

Decoupled: a response per denoising step with progress only, and a last one with the latents.
"""

from pathlib import Path

from pipeline import adapter, tensors
from pipeline.checkpoint import Checkpoint
from pipeline.dit_metrics import DitMetrics
from pipeline.spec import ModelInfo
from pipeline.stages.dit import DitStage
from pipeline.stages.settings import StageSettings


class TritonPythonModel:
    def initialize(self, args):
        folder = adapter.version_folder(args)
        settings = StageSettings.load(folder)
        self.conditions = [tensor.name for tensor in tensors.conditions(ModelInfo.load(folder))]
        self.stage = DitStage(Checkpoint.open(Path(settings.checkpoint)), settings)
        self.jobs = adapter.Jobs("dit")
        self.metrics = DitMetrics(self.stage.ranks)

    def execute(self, requests):
        for request in requests:
            with adapter.Stream(request) as stream, self.jobs.registry.running(request.request_id()):
                self.respond(request, stream)

    def respond(self, request, stream):
        video = adapter.video_request(request)
        total, tick = video.num_inference_steps, self.metrics.step_clock()

        def before_step(step):
            tick()
            self.jobs.registry.advance(request.request_id(), step, total)
            stream.send(adapter.progress("denoise", step, total))

        given = {name.lower(): adapter.optional_array(request, name) for name in self.conditions}
        arrays = {name: array for name, array in given.items() if array is not None}
        latents = self.stage.run(video, arrays, before_step)
        before_step(total)
        # The decoder may not mix these with plain ensemble inputs, so the request travels with the latents.
        stream.send(
            adapter.response([("LATENTS", latents), (tensors.REQUEST.name, adapter.text(video.model_dump_json()))])
        )

    def finalize(self):
        self.metrics.close()
        self.jobs.close()
        self.stage.close()
