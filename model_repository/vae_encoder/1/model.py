"""Triton adapter of the stage ``vae_encoder``; the computation is in
``pipeline.stages.vae_encoder``.

A request without an image or a video to edit gets a response without latents.
"""

from pipeline.ensemble import tensors
from pipeline.errors import TritonVideoError
from pipeline.settings import StageSettings
from pipeline.stages.vae_encoder import VaeEncoderStage
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = VaeEncoderStage(folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        job, arrays = request.request_id(), adapter.clip_arrays(request)
        try:
            with self.jobs.registry.running(job):
                latents = self.stage.run(
                    adapter.video_request(request),
                    arrays,
                    lambda *done: self.jobs.registry.advance(job, *done),
                )
        except TritonVideoError as error:
            return adapter.failure(error)
        made = [] if latents is None else [(tensors.IMAGE_LATENTS.name, latents)]
        return adapter.response(made)

    def finalize(self):
        self.jobs.close()
        self.stage.close()
