#!/usr/bin/env bash
# Makes a base image for the Dockerfile from Debian's packages, where no image can be pulled. As root:
# `scripts/base_image.sh [TAG]`, then `docker build --build-arg BASE_IMAGE=TAG ...`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

tag="${1:-triton-video-base:bookworm}"
command -v debootstrap >/dev/null || install_debian_package "no debootstrap found, which makes the base image" debootstrap

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=ca-certificates,libpython3.11,python3,python3-venv \
    bookworm "$work/root" >"$work/log" || { tail -n 5 "$work/log" >&2; die "debootstrap failed"; }
# Package lists and archives, which nothing uses later.
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/*.log
tar -C "$work/root" -c . | docker import -c 'CMD ["bash"]' - "$tag" >/dev/null
say "$tag"
