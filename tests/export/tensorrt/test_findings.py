"""NVIDIA's messages, as they come, and what of them a reader gets."""

from __future__ import annotations

import pytest

from export.tensorrt.findings import of_log

CUDA = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is "
    "insufficient for CUDA runtime"
    " version))"
)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            "ITensor::getDimensions: Error Code 4: API Usage Error (add: ElementWiseOperation "
            "SUM must have same input "
            "types. In validateTypes at /_src/optimizer/common/nodes/elementWiseNode.cpp:40)",
            "add: ElementWiseOperation SUM must have same input types.",
        ),
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: "
            "check_turing_op_compatibility] "
            "Cannot compile operation 'node_linear_2' for Turing (SM75): FP32 GEMM is not "
            "supported. In compileGraph "
            "at /_src/optimizer/myelin/codeGenerator.cpp:2012)",
            "Cannot compile operation 'node_linear_2' for Turing (SM75): FP32 GEMM is not "
            "supported.",
        ),
        (
            "IBuilderConfig::addOptimizationProfile: Error Code 3: API Usage Error (Parameter "
            "check failed, condition: "
            "profile->isValid().  In addOptimizationProfile at "
            "/_src/optimizer/api/builderConfig.cpp:569)",
            "Parameter check failed, condition: profile->isValid().",
        ),
        (
            "Invalid Node - add\nITensor::getDimensions: Error Code 4: API Usage Error (add: "
            "no. In validateTypes at "
            f"/_src/elementWiseNode.cpp:40)\n{CUDA}",
            "add: no.",
        ),
        (
            "IElementWiseLayer with inputs x and y: types differ.",
            "IElementWiseLayer with inputs x and y: types differ.",
        ),
        ("ModelImporter.cpp:1071: Make sure input INPUT_IDS has Int64 binding.", None),
        (CUDA, None),
        ("", None),
    ],
)
def test_a_cleaned_message_keeps_the_reason(message: str, kept: str | None) -> None:
    assert of_log(message) == kept
