"""Triton adapter of the stage ``text_encoder``; the work is in ``pipeline.stages.text_encoder``."""

from pipeline import adapter, tensors
from pipeline.stages.settings import StageSettings
from pipeline.stages.text_encoder import TextEncoderStage


class TritonPythonModel:
    def initialize(self, args):
        folder = adapter.version_folder(args)
        self.stage = TextEncoderStage(folder, StageSettings.load(folder).threads)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        ids = adapter.array(request, tensors.INPUT_IDS.name)
        mask = adapter.array(request, tensors.ATTENTION_MASK.name)
        return adapter.response([("PROMPT_EMBEDS", self.stage.run(ids, mask))])
