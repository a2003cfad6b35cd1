#!/usr/bin/env bash
# Installs what the tests need beside .venv: PostgreSQL's programs, to start a server, strace, and a
# headless Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

has_postgresql() { compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null; }

if ! has_postgresql; then
    install_debian_package "no PostgreSQL found, which the tests start" postgresql
    has_postgresql || die "PostgreSQL is still missing; put initdb and postgres on the PATH"
fi

# tests/security records with it the addresses that a run connects to.
if ! command -v strace >/dev/null; then
    install_debian_package "strace is missing, with which the tests watch connections" strace
fi

# tests/proxy/page opens the page of `serve` in it. The fonts give text a width.
if ! command -v chromium-headless-shell chromium google-chrome >/dev/null; then
    install_debian_package "no Chromium found, which the tests open pages in" chromium-headless-shell chromium
    install_debian_package "Chromium needs a font" fonts-dejavu-core
fi
