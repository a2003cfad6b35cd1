"""Triton adapter of the stages with one encoder each; see ``pipeline.stages.text_encoder``."""

from pipeline.errors import TritonVideoError
from pipeline.settings import StageSettings
from pipeline.stages.kept_results import KeptResults
from pipeline.stages.text_encoder import open_text_encoder
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter
from pipeline.triton.metrics import EncoderMetrics


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder, name = adapter.version_folder(args), args["model_name"]
        self.metrics = EncoderMetrics(name)
        encoder = open_text_encoder(name, folder, StageSettings.load(folder))
        self.stage = KeptResults(encoder, self.metrics.count)
        self.jobs = adapter.Jobs(name)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        feeds = {name: adapter.array(request, name) for name in self.stage.inputs}
        try:
            return adapter.response(self.stage.run(feeds).items())
        except TritonVideoError as error:
            return adapter.failure(error)

    def finalize(self):
        self.jobs.close()
        self.stage.close()
