"""Triton adapter of ``vae_decoder``; the computation is in ``pipeline.stages.vae_decoder``.

A request without latents carries progress from ``dit``: it is forwarded, also during a decode.
"""

from contextlib import ExitStack
from functools import partial

from pipeline.ensemble import tensors
from pipeline.settings import StageSettings
from pipeline.stages.vae_decoder import VaeDecoderStage
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter
from pipeline.triton.in_order import InOrder


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = VaeDecoderStage(folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])
        self.decoding = InOrder()

    def execute(self, requests):
        for request in requests:
            with ExitStack() as stack:
                stream = stack.enter_context(adapter.Stream(request))
                latents = adapter.optional_array(request, tensors.LATENTS.name)
                if latents is None:
                    names = (tensors.STAGE.name, tensors.PROGRESS.name)
                    stream.send(adapter.response((n, adapter.array(request, n)) for n in names))
                else:
                    stack.enter_context(self.jobs.registry.running(request.request_id()))
                    work = partial(self.respond, request, latents, stream)
                    self.decoding.submit(stack.pop_all(), work)  # the work ends the stream

    def respond(self, request, latents, stream):
        job, video = request.request_id(), adapter.video_request(request)

        def before_chunk(chunk, total):
            self.jobs.registry.advance(job, chunk, total)
            stream.send(adapter.progress("decode", chunk, total))

        decoded = self.stage.run(video, latents, before_chunk, adapter.source(request))
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
        self.decoding.close()
        self.jobs.close()
        self.stage.close()
