#!/usr/bin/env bash
# Installs NVIDIA's Python bindings of TensorRT under .venv/tensorrt, one folder per version, after
# scripts/setup.sh. They contain no TensorRT: the tests import them over stub libraries and check the
# names that the code uses. The versions are the first and the last that the code is for, and steps
# between them.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

folder=.venv/tensorrt
say "installing the bindings of TensorRT that are tested"
rm -rf "$folder"
for version in 10.13.3.9 10.14.1.48 10.16.1.11 11.0.0.114 11.4.0.106; do
    # A version such as 10.14.1.48.post1 is 10.14.1.48 too.
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps \
        --target "$folder/$version" "tensorrt-cu13-bindings==$version.*"
done
