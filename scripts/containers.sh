#!/usr/bin/env bash
# Builds the images proxy and cpu from a base of Debian's packages, and runs the tests that need them.
# Uses a docker daemon that answers. Otherwise, as root, starts one with its own folder and socket, and
# stops it at the end. Where none can run, the tests skip and report it. Arguments are passed to
# pytest: `scripts/containers.sh [ARGUMENT...]`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

VERSION="$(sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml)"
BASE="triton-video-base:bookworm"
work="$(mktemp -d -p /var/tmp)"
daemon=""

clean_up() {
    if [[ -n "$daemon" ]]; then
        kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null || true
    fi
    # The daemon leaves the namespace of its network mounted.
    awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r -n 1 umount
    rm -rf "$work"
}
trap clean_up EXIT

# Without a bridge and its iptables rules, which some machines forbid even to root: host network.
start_daemon() {
    [[ "$(id -u)" == 0 ]] || return 1
    command -v dockerd >/dev/null || install_debian_package "no docker found, which the images are built with" docker.io
    export DOCKER_HOST="unix://$work/docker.sock"
    dockerd --iptables=false --bridge=none --data-root "$work/data" --exec-root "$work/run" \
        --pidfile "$work/pid" --host "$DOCKER_HOST" >"$work/log" 2>&1 &
    daemon=$!
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.5
    done
    tail -n 3 "$work/log" >&2
    return 1
}

build() {
    local tag="$1"
    shift
    docker build -q -t "$tag" --build-arg BASE_IMAGE="$BASE" "$@" >/dev/null
    say "built $tag after $SECONDS s, $(docker image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B"
}

if ! docker info >/dev/null 2>&1 && ! start_daemon; then
    say "no docker daemon answers, and none can be started here: the tests of containers are skipped"
    .venv/bin/pytest -m containers tests/containers "$@"
    exit
fi
command -v docker-compose >/dev/null || install_debian_package "no docker-compose found, which is tested" docker-compose

# The builder of Debian's docker; newer ones build the same file.
export DOCKER_BUILDKIT=0
bash scripts/base_image.sh "$BASE" &
bash scripts/wheels.sh
wait $!
build triton-video-postgres:test --network host tests/containers/postgres
offline=(--build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/build/wheels .)
build "triton-video:$VERSION-cpu" --target cpu "${offline[@]}"
build "triton-video:$VERSION-proxy" --target proxy "${offline[@]}"
rm -rf build/wheels

CONTAINERS=1 HF_HUB_OFFLINE=1 .venv/bin/pytest -m containers tests/containers "$@"
say "containers: $SECONDS s in all"
