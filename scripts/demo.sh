#!/usr/bin/env bash
# One prompt becomes one video, through a real Triton: `scripts/demo.sh [FOLDER]`.
# With PICTURE=FILE.png a strip of its frames is written there as well: that is how the README's picture is made.
set -euo pipefail
cd "$(dirname "$0")/.."

folder="${1:-outputs/demo}"
prompt="${PROMPT:-a red circle moves right on a white background}"

.venv/bin/triton-video generate --prompt "$prompt" --output-path "$folder" --seed "${SEED:-0}"

# `generate` never overwrites, so the newest file is the one just made.
video="$(find "$folder" -maxdepth 1 -name '*.mp4' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)"
[[ -n "$video" ]] || { echo "demo: no .mp4 in $folder" >&2; exit 1; }

if [[ -n "${PICTURE:-}" ]]; then
    .venv/bin/python scripts/frame_strip.py "$video" "$PICTURE"
fi
echo "demo: $video"
