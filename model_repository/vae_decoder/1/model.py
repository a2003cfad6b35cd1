"""Triton adapter of ``vae_decoder``; the computation is in ``pipeline.stages.vae_decoder``.

A request without latents carries progress from ``dit``: it is forwarded, also during a decode. If
it has an estimate and no decode runs, a second response carries a preview of that.
"""

from contextlib import ExitStack
from functools import partial

from pipeline.ensemble import tensors
from pipeline.settings import StageSettings
from pipeline.stages.vae_decoder import VaeDecoderStage
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter, decoder_request
from pipeline.triton.in_order import InOrder


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = VaeDecoderStage(folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])
        self.decoding = InOrder()

    def execute(self, requests):
        previews = self.stage.previews
        for request in requests:
            with ExitStack() as stack:
                stream = stack.enter_context(adapter.Stream(request))
                latents = adapter.optional_array(request, tensors.LATENTS.name)
                if latents is None:
                    estimate = decoder_request.forward_progress(request, stream)
                    if estimate is None or not (self.decoding.idle and previews.due):
                        continue
                    work = partial(
                        decoder_request.preview, estimate, stream, self.stage.previews.make
                    )
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
        files = (decoded.mp4, decoded.thumbnail, decoded.spritesheet)
        stream.send(decoder_request.finished(video, files, decoded.frames))

    def finalize(self):
        self.decoding.close()
        self.jobs.close()
        self.stage.close()
