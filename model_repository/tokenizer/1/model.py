"""Triton adapter of the stage ``tokenizer``; the computation is in
``pipeline.stages.tokenizer``.
"""

from pipeline.ensemble import tensors
from pipeline.errors import InputError
from pipeline.settings import StageSettings
from pipeline.stages.tokenizer import TokenizerStage
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        folder = adapter.version_folder(args)
        self.stage = TokenizerStage(folder, StageSettings.load(folder))
        self.jobs = adapter.Jobs(args["model_name"])

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            values, return_frames = adapter.sampling_values(request)
            files = adapter.input_files(request)
            tokens = self.stage.run(values, return_frames=return_frames, inputs=files)
        except InputError as error:
            return adapter.failure(error)
        described = adapter.text(tokens.request.model_dump_json())
        return adapter.response([(tensors.REQUEST.name, described), *tokens.tensors.items()])

    def finalize(self):
        self.jobs.close()
