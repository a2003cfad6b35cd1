"""Triton adapter of ``control``: cancels a job in every stage, or lists the running jobs. See
``pipeline.triton.control``.
"""

import json
import os

from pipeline.ensemble import tensors
from pipeline.ensemble.stages import stages_for
from pipeline.errors import InputError
from pipeline.families import ModelInfo
from pipeline.system.parent import end_with_parent
from pipeline.triton import adapter, control
from pipeline.triton.control_token import permits


class TritonPythonModel:
    def initialize(self, args):
        end_with_parent()
        stages = stages_for(ModelInfo.load(adapter.version_folder(args)))
        self.stages = [stage.name for stage in stages if stage.cancellable]
        self.jobs = adapter.Jobs(args["model_name"])

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        if not permits(adapter.optional_text(request, tensors.TOKEN.name)):
            return adapter.failure(
                InputError("token", "missing or wrong; this Triton requires its control token")
            )
        action = adapter.optional_text(request, tensors.ACTION.name)
        job = adapter.optional_text(request, tensors.JOB_ID.name)
        if action not in ("cancel", "status"):
            return adapter.failure(InputError("action", f"{action!r} should be cancel or status"))
        if action == "cancel" and not job:
            return adapter.failure(
                InputError("job_id", "is missing; it is the id of the request to cancel")
            )
        message = {"action": action, "job_id": job}
        answers = {stage: self.ask(stage, message) for stage in self.stages}
        return adapter.response([(tensors.ANSWER.name, adapter.text(json.dumps(answers)))])

    def ask(self, stage, message):
        try:
            return control.send(control.stage_address(stage, os.getppid()), message)
        except OSError as error:
            return {
                "error": str(error),
                "dead": isinstance(error, (ConnectionRefusedError, FileNotFoundError)),
            }

    def finalize(self):
        self.jobs.close()
