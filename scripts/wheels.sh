#!/usr/bin/env bash
# Downloads the wheels of the images proxy and cpu into build/wheels with this machine's pip, its index,
# certificates and cache. The build then needs no network. `scripts/wheels.sh [EXTRA...]`.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
extras=("$@")
[[ ${#extras[@]} -gt 0 ]] || extras=(proxy tracing embedded export)

mkdir -p build/wheels
"$python" scripts/requirements.py "${extras[@]}" >build/wanted.txt
"$python" -m pip wheel -qq --disable-pip-version-check --no-input -c constraints.txt -w build/wheels \
    -r build/wanted.txt hatchling
rm build/wanted.txt
echo "wheels: $(find build/wheels -name '*.whl' | wc -l) in build/wheels, $(du -sh build/wheels | cut -f1)"
