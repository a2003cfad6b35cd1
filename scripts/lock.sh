#!/usr/bin/env bash
# Writes constraints.txt: resolves every extra on Python 3.11, starting from the pins given with -c, or
# from none. Only the torch pin is never left to the resolver: `scripts/lock.sh [-c FILE]`.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH="2.13.0"
python="${PYTHON:-python3.11}"
[[ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" == 3.11 ]] || {
    echo "lock: the constraints are made for Python 3.11; set PYTHON to one" >&2
    exit 1
}

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" --upgrade setuptools "torch==$TORCH" -e '.[all,dev]'

{
    echo "# Exact versions of everything that any extra needs, on Python 3.11 and Linux x86_64."
    echo "#     pip install -c constraints.txt -e '.[all]'"
    echo "# Written by scripts/lock.sh (\`make lock\`); not edited by hand. A CUDA build of torch pins its own CUDA libraries."
    # Without the local label (+cpu), which names a build that not every index has.
    "$work/venv/bin/python" -m pip freeze --all --exclude-editable | grep -v '^pip==' \
        | sed -E 's/^([^ =]+==[^+ ]+)\+.*$/\1/' | sort -f
} >"$work/constraints.txt"
if grep -nE '@|file:|://' <(grep -v '^#' "$work/constraints.txt"); then
    echo "lock: the lines above name a place and not a version" >&2
    exit 1
fi
mv "$work/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) packages"
