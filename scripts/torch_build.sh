#!/usr/bin/env bash
# Prints which build of torch suits this machine: cpu, cu126 (CUDA 12.6) or pypi, which is PyPI's own
# (CUDA 13: 6.4 GB with its libraries, instead of 2.6). TRITON_VIDEO_TORCH overrides it.
#
#     bash scripts/torch_build.sh [DEVICES]     DEVICES replaces /dev
set -euo pipefail
cuda13_driver=580

chosen="${TRITON_VIDEO_TORCH:-}"
if [[ -z "$chosen" ]]; then
    chosen=cpu
    if compgen -G "${1:-/dev}/nvidia[0-9]*" >/dev/null || [[ -e "${1:-/dev}/dxg" ]]; then
        driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)"
        chosen=pypi
        if [[ "${driver%%.*}" =~ ^[0-9]+$ ]] && ((${driver%%.*} < cuda13_driver)); then
            chosen=cu126
        fi
    fi
fi
case "$chosen" in
    cpu | cu126 | pypi) echo "$chosen" ;;
    *)
        echo "TRITON_VIDEO_TORCH: $chosen is not a build of torch; it must be cpu, cu126 or pypi" >&2
        exit 2
        ;;
esac
