#!/usr/bin/env bash
# What a user of curl does; ENCODING is json or form. Prints a JSON object for each answer: step, status, answer.
#
# Usage: ENCODING=... JSON=OBJECT FORM=LINES SERVER=URL HASTY_SERVER=URL TEXT_SERVER=URL KEY=... LIST_KEY=...
# ALIAS=... story.sh FOLDER
set -euo pipefail
folder="$1"
answer="$folder/answer.json"

# Calls with a key and prints a line; the answer stays in a file.
step() {
    local name="$1" key="$2" status
    shift 2
    status="$(curl -sS -o "$answer" -w '%{http_code}' -H "Authorization: Bearer $key" "$@")"
    printf '{"step": "%s", "status": %s, "answer": %s}\n' "$name" "$status" "$(cat "$answer")"
}

# The value of a text in the last answer.
value() { sed -E "s/.*\"$1\": ?\"([^\"]*)\".*/\1/" "$answer"; }

create() {
    if [[ "$ENCODING" == json ]]; then
        step "$1" "$KEY" "$SERVER/v1/videos" -H "Content-Type: application/json" -d "$JSON"
    else
        local fields
        mapfile -t fields <<<"$FORM"
        step "$1" "$KEY" "$SERVER/v1/videos" "${fields[@]/#/-F}"
    fi
}

poll() {
    local name="$1" server="$2" id="$3"
    # First a step: the last answer may be another video's.
    step polling "$KEY" "$server/v1/videos/$id" >/dev/null
    until [[ "$(value status)" =~ ^(completed|failed)$ ]]; do
        sleep 0.1
        step polling "$KEY" "$server/v1/videos/$id" >/dev/null
    done
    step "$name" "$KEY" "$server/v1/videos/$id"
}

# Every page, and the last one's last id leads to the next.
pages() {
    local order="$1" after=""
    while true; do
        step "listed-$order" "$LIST_KEY" "$SERVER/v1/videos?limit=10&order=$order$after"
        grep -qE '"has_more": ?true' "$answer" || break
        after="&after=$(value last_id)"
    done
}

# Edits or extends the downloaded video, which JSON cannot hold.
of_video() {
    local name="$1" route="$2" prompt="$3"
    shift 3
    step "$name" "$KEY" "$SERVER/v1/videos/$route" -F "video=@$folder/video.mp4" -F "prompt=$prompt" "$@"
}

create created
created="$(value id)"
create creating
made="$(value id)"
poll made "$SERVER" "$made"
step retrieved "$KEY" "$SERVER/v1/videos/$made"
poll polled "$SERVER" "$created"
curl -sS -L -o "$folder/video.mp4" -H "Authorization: Bearer $KEY" "$SERVER/v1/videos/$made/content"
step remixed "$KEY" "$SERVER/v1/videos/$made/remix" -H "Content-Type: application/json" -d '{"prompt": "a blue square"}'
step named "$KEY" "$SERVER/v1/videos" -F prompt=x -F "model=$ALIAS"
step model "$KEY" "$SERVER/v1/models/$ALIAS"
pages asc
pages desc
step deleted "$KEY" -X DELETE "$SERVER/v1/videos/$made"
step moving "$KEY" "$SERVER/v1/videos" -F prompt=x -F "input_reference=@$folder/picture.png"
poll moved "$SERVER" "$(value id)"
of_video editing edits "a blue circle" -F strength=0.5 -F num_inference_steps=2
poll edited "$SERVER" "$(value id)"
of_video extending extensions "it stops" -F seconds=1 -F num_inference_steps=2
poll extended "$SERVER" "$(value id)"
step failing "$KEY" "$HASTY_SERVER/v1/videos" -F prompt=x -F num_inference_steps=200
failed="$(value id)"
poll failed "$HASTY_SERVER" "$failed"

step size "$KEY" "$SERVER/v1/videos" -F prompt=x -F size=65x63
step model "$KEY" "$SERVER/v1/videos" -F prompt=x -F model=sora-2
step picture "$KEY" "$TEXT_SERVER/v1/videos" -F prompt=x -F "input_reference=@$folder/picture.png"
step key wrong "$SERVER/v1/videos"
step retrieve "$KEY" "$SERVER/v1/videos/$made"
step content "$KEY" "$SERVER/v1/videos/$made/content"
step delete "$KEY" -X DELETE "$SERVER/v1/videos/$made"
step failed "$KEY" "$HASTY_SERVER/v1/videos/$failed/content"
