"""Triton adapter of the stage ``tokenizer``; the work is in ``pipeline.stages.tokenizer``."""

from pipeline import adapter, tensors
from pipeline.errors import InputError
from pipeline.stages.tokenizer import TokenizerStage


class TritonPythonModel:
    def initialize(self, args):
        self.stage = TokenizerStage(adapter.version_folder(args))

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            values, return_frames = adapter.sampling_values(request)
            tokens = self.stage.run(values, return_frames=return_frames)
        except InputError as error:
            return adapter.failure(error)
        return adapter.response(
            [
                (tensors.REQUEST.name, adapter.text(tokens.request.model_dump_json())),
                (tensors.INPUT_IDS.name, tokens.input_ids),
                (tensors.ATTENTION_MASK.name, tokens.attention_mask),
                (tensors.NEGATIVE_INPUT_IDS.name, tokens.negative_input_ids),
                (tensors.NEGATIVE_ATTENTION_MASK.name, tokens.negative_attention_mask),
            ]
        )
