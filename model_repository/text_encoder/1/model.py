"""Triton adapter of the stages ``text_encoder`` and ``text_encoder_2``; see ``pipeline.stages.text_encoder``."""

from pipeline import adapter
from pipeline.stages.settings import StageSettings
from pipeline.stages.text_encoder import TextEncoderStage


class TritonPythonModel:
    def initialize(self, args):
        folder = adapter.version_folder(args)
        self.stage = TextEncoderStage(folder, StageSettings.load(folder).threads)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        feeds = {name: adapter.array(request, name) for name in self.stage.inputs}
        return adapter.response(self.stage.run(feeds).items())
