#!/usr/bin/env bash
# Make one video from one prompt, through a real Triton: `scripts/demo.sh [FOLDER]`.
# With ANIMATION=FILE.webp also put all videos of the folder side by side, as in the README.
set -euo pipefail
cd "$(dirname "$0")/.."

folder="${1:-outputs/demo}"
prompt="${PROMPT:-a red circle moves right on a white background}"

.venv/bin/triton-video generate --prompt "$prompt" --output-path "$folder" --seed "${SEED:-0}"

# `generate` never overwrites, so the newest file is the one just made.
video="$(find "$folder" -maxdepth 1 -name '*.mp4' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)"
[[ -n "$video" ]] || { echo "demo: no .mp4 in $folder" >&2; exit 1; }

if [[ -n "${ANIMATION:-}" ]]; then
    .venv/bin/python scripts/video_strip.py "$ANIMATION" "$folder"/*.mp4
fi
echo "demo: $video"
