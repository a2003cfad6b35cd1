"""Triton adapter of ``control``: cancels a job in whatever stage it is, or says what runs. See ``pipeline.control``."""

import json
import os

from pipeline import adapter, control, tensors
from pipeline.errors import InputError
from pipeline.spec import ModelInfo


class TritonPythonModel:
    def initialize(self, args):
        encoder = ["vae_encoder"] if ModelInfo.load(adapter.version_folder(args)).takes_picture else []
        self.stages = [*encoder, "dit", "vae_decoder"]

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        action = bytes(adapter.array(request, tensors.ACTION.name)[0]).decode(errors="replace")
        job = adapter.optional_array(request, tensors.JOB_ID.name)
        if action not in ("cancel", "status"):
            return adapter.failure(InputError("action", f"{action!r} should be cancel or status"))
        if action == "cancel" and (job is None or not job[0]):
            return adapter.failure(InputError("job_id", "is missing; it is the id of the request to cancel"))
        message = {"action": action, "job_id": bytes(job[0]).decode(errors="replace") if job is not None else None}
        answers = {stage: self.ask(stage, message) for stage in self.stages}
        return adapter.response([(tensors.ANSWER.name, adapter.text(json.dumps(answers)))])

    def ask(self, stage, message):
        try:
            return control.send(os.getppid(), stage, message)
        except OSError as error:
            return {"error": str(error), "dead": isinstance(error, ConnectionRefusedError)}
