"""Triton adapter of the stage ``vae_decoder``; the computation is in
``pipeline.stages.vae_decoder``.

A request without latents carries progress from ``dit``, which is forwarded to the client.
"""

from pipeline.ensemble import tensors
from pipeline.settings import StageSettings
from pipeline.stages.vae_decoder import VaeDecoderStage
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = VaeDecoderStage(folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])

    def execute(self, requests):
        for request in requests:
            with adapter.Stream(request) as stream:
                latents = adapter.optional_array(request, tensors.LATENTS.name)
                if latents is None:
                    self.pass_on(request, stream)
                else:
                    with self.jobs.registry.running(request.request_id()):
                        self.respond(request, latents, stream)

    def pass_on(self, request, stream):
        names = (tensors.STAGE.name, tensors.PROGRESS.name)
        stream.send(adapter.response([(name, adapter.array(request, name)) for name in names]))

    def respond(self, request, latents, stream):
        def before_chunk(chunk, total):
            self.jobs.registry.advance(request.request_id(), chunk, total)
            stream.send(adapter.progress("decode", chunk, total))

        video = adapter.video_request(request)
        decoded = self.stage.run(video, latents, before_chunk)
        outputs = [
            (tensors.VIDEO.name, adapter.text(decoded.mp4)),
            (tensors.THUMBNAIL.name, adapter.text(decoded.thumbnail)),
            (tensors.SPRITESHEET.name, adapter.text(decoded.spritesheet)),
            (tensors.RESULT.name, adapter.text(video.model_dump_json())),
        ]
        if decoded.frames is not None:
            outputs.append((tensors.FRAMES.name, decoded.frames))
        stream.send(adapter.response(outputs))

    def finalize(self):
        self.jobs.close()
        self.stage.close()
