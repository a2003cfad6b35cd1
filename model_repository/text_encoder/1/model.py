"""Triton adapter of the stages with one encoder each; see ``pipeline.stages.text_encoder``."""

from pipeline.errors import TritonVideoError
from pipeline.settings import StageSettings
from pipeline.stages.text_encoder import open_text_encoder
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = open_text_encoder(args["model_name"], folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])

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
