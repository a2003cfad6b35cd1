"""Triton's errors are classified by cause, because the cause decides what the caller does next."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from pipeline.client.messages import DeadStage, model_info, request_inputs, translate
from pipeline.errors import CancelledError, GenerationError, InputError, ServerError
from pipeline.families import Inputs, SamplingParams
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("message", "status", "kind", "text"),
    [
        (
            "in ensemble 'video', height: 40 is not valid",
            None,
            InputError,
            "height: 40 is not valid",
        ),
        ("in ensemble 'video', in ensemble 'video', seed: no", None, InputError, "seed: no"),
        (
            "in ensemble 'video', job a-1 was cancelled before step 3 of 4",
            None,
            CancelledError,
            "job a-1 was",
        ),
        (
            "Socket closed",
            "StatusCode.UNAVAILABLE",
            ServerError,
            "lost the Triton at host:1: Socket closed",
        ),
        (
            "in ensemble 'video', interrupted: rank 1 hung",
            None,
            ServerError,
            "the Triton at host:1 was interrupted: rank",
        ),
        (
            "Failed to process, stub process 'dit_0_0' is not healthy.",
            None,
            DeadStage,
            "the stage dit",
        ),
        (
            "colour: this is no parameter of ours",
            None,
            GenerationError,
            "colour: this is no parameter",
        ),
        ("", None, GenerationError, ""),
    ],
)
def test_triton_errors_map_to_error_classes(
    message: str, status: str | None, kind: type, text: str
) -> None:
    error = translate(InferenceServerException(message, status), "host:1")
    assert type(error) is kind
    assert text in str(error)


def test_only_parameters_that_were_set_are_sent() -> None:
    sent = {
        item.name()
        for item in request_inputs(
            SamplingParams(prompt="x", seed=0), Inputs(), return_frames=False
        )
    }
    assert sent == {"PROMPT", "SEED", "RETURN_FRAMES"}


def test_model_info_is_read_from_the_ensemble_config() -> None:
    text = (ROOT / "model_repository" / "video" / "config.pbtxt").read_text()
    info = model_info(text_format.Parse(text, model_config_pb2.ModelConfig()))
    assert (info.name, info.defaults.num_frames) == ("shapes", 17)


def test_an_ensemble_without_model_info_is_an_error() -> None:
    with pytest.raises(ServerError, match="does not describe itself"):
        model_info(model_config_pb2.ModelConfig())
